import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const power = (g: Builder, [x, e]: Value[]): Value => g.pow(x!, e!);
const constantPower =
  (n: number) =>
  (g: Builder, [x]: Value[]): Value =>
    g.pow(x!, n);

describe("Pow", () => {
  test.each([
    { a: [2, 3], b: [2, 3] },
    { a: [5, 1, 3], b: [4, 1] },
    { a: [3], b: [2, 7, 3] },
    { a: [7, 5], b: [1] },
  ])("$a to the $b", ({ a, b }) =>
    checkGradient(power, [
      { dims: a, range: [0.5, 2] },
      { dims: b, range: [-2, 2] },
    ]),
  );
  test("frozen exponent", () =>
    checkGradient(power, [
      { dims: [2, 3], range: [0.5, 2] },
      { dims: [3], range: [-2, 3], frozen: true },
    ]));
  test("frozen base", () =>
    checkGradient(power, [
      { dims: [2, 3], range: [0.5, 2], frozen: true },
      { dims: [3], range: [-2, 3] },
    ]));
  test("integer exponents", () =>
    checkGradient(power, [{ dims: [2, 3] }, { dims: [3], data: [0, 1, 3], type: "int64" }]));
  test.each([0, 1, 2, 3, 4, 0.5, -1, 2.5])("constant exponent %s", async (n) => {
    await checkGradient(constantPower(n), [{ dims: [7, 5], range: [0.5, 2] }]);
    await checkGradient(constantPower(n), [{ dims: [5], range: [0.5, 2] }], { opset: 11 });
  });
  test.each([2, 3, 4, -1])("constant exponent %s of negative numbers", (n) =>
    checkGradient(constantPower(n), [{ dims: [2, 3], range: [-2, -0.5] }]),
  );

  test("zeros as in PyTorch", async () => {
    for (const [n, expected] of [
      [0, 0],
      [1, 1],
      [2, 0],
      [3, 0],
      [4, 0],
      [2.5, 0],
      [0.5, Infinity],
      [-1, -Infinity],
    ] as const) {
      expect(await gradientAt(constantPower(n), [[0]]), `exponent ${n}`).toEqual([[expected]]);
    }
    const [dX, dE] = await gradientAt(power, [
      [0, 0, 0, 0, -2],
      [0, 1, 2, -1, 2],
    ]);
    expect(dX).toEqual([0, 1, 0, -Infinity, -4]);
    expect(dE).toEqual([0, 0, 0, -Infinity, NaN]);
  });
});
