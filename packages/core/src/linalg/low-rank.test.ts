import { expect, test } from "vitest";
import { testRandom } from "../testing/check-gradient.ts";
import { leadingFactors, lowRankSvd, productSvd } from "./low-rank.ts";
import { type Matrix, matrix, matrixFrom, multiply, subtract } from "./matrix.ts";
import { singularValues, svd } from "./svd.ts";

const random = testRandom(1);
const drawn = (rows: number, columns: number): Matrix => matrixFrom(rows, columns, () => random() * 2 - 1);
const norm = ({ data }: Matrix): number => Math.hypot(...data);

test.each([
  [7, 2, 5],
  [4, 4, 9],
  [3, 6, 4], // wider than the product's rank can be
])("the SVD of a product of %i x %i by %i columns is that of its entries", (m, k, n) => {
  const [left, right] = [drawn(m, k), drawn(k, n)];
  const product = multiply(left, right);
  const found = productSvd(left, right);
  const rank = Math.min(m, k, n);
  expect(found.s).toHaveLength(rank);
  singularValues(product).forEach((s, i) => {
    expect(Math.abs(s - (found.s[i] ?? 0))).toBeLessThan(1e-13);
  });
  const { left: l, right: r } = leadingFactors(found, rank);
  expect(norm(subtract(multiply(l, r), product))).toBeLessThan(1e-13);
});

test("leading factors leave the singular values that follow, and are equally large", () => {
  const a = drawn(6, 4);
  const { s } = svd(a);
  const { left, right } = leadingFactors(svd(a), 2);
  expect([left.rows, left.columns, right.rows, right.columns]).toEqual([6, 2, 2, 4]);
  expect(norm(subtract(a, multiply(left, right)))).toBeCloseTo(Math.hypot(s[2]!, s[3]!), 12);
  expect(norm(left)).toBeCloseTo(norm(right), 12);
});

test("a low rank is found through float32 rounding, a higher one is not taken for it", () => {
  const exact = multiply(drawn(50, 4), drawn(4, 40));
  const rounded = matrix(50, 40, Float32Array.from(exact.data));
  const found = lowRankSvd(rounded, 4, 2 ** -22)!;
  const s = singularValues(rounded);
  for (let i = 0; i < 4; i++) expect(Math.abs(found.s[i]! - s[i]!) / s[0]!).toBeLessThan(1e-12);
  expect(found.s[4]! / s[0]!).toBeLessThan(1e-6);
  const { left, right } = leadingFactors(found, 4);
  expect(norm(subtract(multiply(left, right), exact)) / norm(exact)).toBeLessThan(1e-7);
  expect(lowRankSvd(drawn(50, 40), 4, 2 ** -22)).toBeNull();
  const slightlyMore = matrix(
    50,
    40,
    exact.data.map((v) => v + 1e-4 * (random() - 0.5)),
  );
  expect(lowRankSvd(slightlyMore, 4, 2 ** -22)).toBeNull();
  expect(lowRankSvd(matrix(5, 4), 2, 2 ** -22)!.s.every((v) => v === 0)).toBe(true);
});
