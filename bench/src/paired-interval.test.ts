import { expect, test } from "vitest";
import { pairedInterval } from "./paired-interval.ts";

test("mean difference of pairs with Student's interval", () => {
  const { mean, low, high } = pairedInterval([3, 5, 7], [1, 2, 3]);
  expect(mean).toBe(3);
  expect(high - mean).toBeCloseTo(4.303 / Math.sqrt(3), 12);
  expect(low).toBeCloseTo(2 * mean - high, 12);
  expect(pairedInterval([1, 2], [0, 1])).toEqual({ mean: 1, low: 1, high: 1 });
});

test("pairs that are missing are refused", () => {
  expect(() => pairedInterval([1], [1])).toThrow("Expected 2 to 31 pairs, received 1 and 1 values.");
  expect(() => pairedInterval([1, 2, 3], [1, 2])).toThrow("received 3 and 2 values");
});
