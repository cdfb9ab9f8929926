import { expect, test } from "vitest";
import { testRandom } from "../testing/check-gradient.ts";
import { leadingFactors, productSvd } from "./low-rank.ts";
import { type Matrix, matrixFrom, multiply, subtract } from "./matrix.ts";
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
