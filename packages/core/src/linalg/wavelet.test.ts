import { expect, test } from "vitest";
import { identity, matrix, matrixFrom, multiply } from "./matrix.ts";
import { largestDifference } from "./measure.ts";
import { coefficientCount, synthesisMatrix } from "./wavelet.ts";
import { highPass, lowPass, waveletNames } from "./wavelet-tables.ts";

test.each(waveletNames)("%s is orthogonal to its even shifts, and its high pass is too", (name) => {
  const [h, g] = [lowPass(name), highPass(name)];
  const family = Number(/\d+$/.exec(name)![0]);
  expect(h).toHaveLength((name.startsWith("coif") ? 6 : 2) * family);
  expect(h.reduce((a, b) => a + b, 0)).toBeCloseTo(Math.SQRT2, 6);
  const product = (a: Float64Array, b: Float64Array, shift: number): number =>
    a.slice(shift).reduce((sum, v, k) => sum + v * b[k]!, 0);
  for (let shift = 0; shift < h.length; shift += 2) {
    expect(product(h, h, shift)).toBeCloseTo(shift === 0 ? 1 : 0, 6);
    expect(product(g, g, shift)).toBeCloseTo(shift === 0 ? 1 : 0, 6);
    expect(product(h, g, shift)).toBeCloseTo(0, 6);
  }
  // dbN and symN have N vanishing moments, coifN 2 N: the high pass does not see a constant or a line.
  expect(g.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 6);
  if (family > 1) expect(g.reduce((sum, v, k) => sum + k * v, 0)).toBeCloseTo(0, 4);
});

test("synthesis with Haar is an orthogonal matrix of sums and differences", () => {
  const s = synthesisMatrix(6, "db1");
  expect(coefficientCount(6, "db1")).toBe(6);
  expect(largestDifference(multiply(s, s, { transB: true }), identity(6))).toBeLessThan(1e-15);
  const samples = multiply(s, matrix(6, 1, Float64Array.of(0, 1, 0, 0, 0, 1))).data;
  expect([...samples].map((v) => v * Math.SQRT2)).toEqual([0, 0, 1, 1, 1, -1].map((v) => expect.closeTo(v, 12)));
});

test.each(["db2", "sym4", "coif1"] as const)("%s: columns whose taps are all inside are orthonormal", (name) => {
  const [size, taps] = [25, lowPass(name).length];
  const count = coefficientCount(size, name);
  const s = synthesisMatrix(size, name);
  expect([s.rows, s.columns, count % 2]).toEqual([size, count, 0]);
  const inside = [...Array(count).keys()].filter((column) => {
    const from = 2 * (column % (count / 2)) - (taps - 2);
    return from >= 0 && from + taps <= size;
  });
  const columns = matrixFrom(size, inside.length, (t, k) => s.data[t * count + inside[k]!]!);
  expect(inside.length).toBeGreaterThan(8);
  expect(largestDifference(multiply(columns, columns, { transA: true }), identity(inside.length))).toBeLessThan(1e-6);
});
