import { describe, expect, test } from "vitest";
import { addDims, broadcastDim, divideExactly, evaluateDim, mulDims } from "./dims.ts";

describe("broadcastDim", () => {
  test.each([
    [3, 1, 3],
    [3, "a", 3],
    ["a", 1, "a"],
    ["a", "a", "a"],
    ["b", "a", "[a|b]"],
    ["[a|b]", "a", "[a|b]"],
    ["[a|b]", "[b|c]", "[a|b|c]"],
    ["a", "?7", "a"],
    ["[a|b]", "?7", "[a|b]"],
    ["?6", "?7", null],
    [2, 3, null],
    ["[x//2]", "[y//2]", "[[x//2]|[y//2]]"],
  ])("%s with %s is %s", (a, b, expected) => {
    expect(broadcastDim(a, b)).toBe(expected);
    expect(broadcastDim(b, a)).toBe(expected);
  });

  test("the result can be evaluated and multiplied", () => {
    const both = broadcastDim("a", "2*b") ?? 0;
    const sizes = (a: number, b: number) => new Map(Object.entries({ a, b }));
    expect(evaluateDim(both, sizes(1, 3))).toBe(6);
    expect(evaluateDim(mulDims(both, "a"), sizes(6, 3))).toBe(36);
    expect(evaluateDim(broadcastDim("[a//2]", "b") ?? 0, sizes(3, 5))).toBe(5);
    expect(evaluateDim(both, new Map([["a", 1]]))).toBe(null);
  });
});

describe("divideExactly", () => {
  const length = addDims("tokens", "virtual");
  test.each([
    [mulDims("batch", length), length, "batch"],
    [mulDims(length, addDims("batch", 3)), length, addDims("batch", 3)],
    [mulDims(mulDims(6, length), length), mulDims(2, length), mulDims(3, length)],
    [mulDims("batch", length), "batch", length],
    [mulDims("batch", length), addDims("tokens", 1), null],
    [addDims("tokens", 1), length, null],
    [0, length, 0],
  ])("%s / %s is %s", (a, b, expected) => {
    expect(divideExactly(a, b)).toBe(expected);
  });
});
