import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRandom } from "../random/random.ts";
import { cholesky } from "./cholesky.ts";
import { expm } from "./expm.ts";
import { inverse, ldu, luPartialPivot, solve } from "./lu.ts";
import {
  add,
  diagonal,
  identity,
  type Matrix,
  matrix,
  matrixFrom,
  multiply,
  scale,
  subtract,
  transpose,
} from "./matrix.ts";
import { frobeniusNorm, largestDifference } from "./measure.ts";
import { qr } from "./qr.ts";
import { randomizedSvd } from "./randomized-svd.ts";
import { type Svd, singularValues, svd } from "./svd.ts";
import { symmetricEigen } from "./symmetric-eigen.ts";

function gaussian(rows: number, columns: number, seed: number): Matrix {
  const random = createRandom(seed);
  return matrixFrom(rows, columns, () => random.normal());
}

const orthonormal = (rows: Matrix): number =>
  largestDifference(multiply(rows, rows, { transB: true }), identity(rows.rows));
const product = ({ u, s, vt }: Svd): Matrix => multiply(u, multiply(diagonal(s), vt));

/** Random matrices of random, also extreme, scale and often of low rank. */
const anyMatrix = fc
  .record({
    rows: fc.integer({ min: 1, max: 12 }),
    columns: fc.integer({ min: 1, max: 12 }),
    rank: fc.integer({ min: 0, max: 12 }),
    exponent: fc.constantFrom(-290, -20, 0, 0, 0, 20, 150),
    seed: fc.nat(1e6),
  })
  .map(({ rows, columns, rank, exponent, seed }) => {
    const k = Math.min(rank, rows, columns);
    const a = k === 0 ? matrix(rows, columns) : multiply(gaussian(rows, k, seed), gaussian(k, columns, seed + 1));
    return scale(a, 10 ** exponent);
  });

describe("svd", () => {
  test("factors are orthonormal, values sorted, and the product is the matrix", () => {
    fc.assert(
      fc.property(anyMatrix, (a) => {
        const found = svd(a);
        const size = frobeniusNorm(a);
        expect(largestDifference(product(found), a)).toBeLessThanOrEqual(1e-13 * size);
        expect(orthonormal(transpose(found.u))).toBeLessThan(1e-12);
        expect(orthonormal(found.vt)).toBeLessThan(1e-12);
        for (let i = 0; i < found.s.length; i++) {
          expect(found.s[i]).toBeGreaterThanOrEqual(i + 1 < found.s.length ? found.s[i + 1]! : 0);
        }
        const alone = singularValues(a);
        alone.forEach((s, i) => {
          expect(Math.abs(s - found.s[i]!)).toBeLessThanOrEqual(1e-13 * size);
        });
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    [200, 200],
    [300, 40],
    [50, 130],
  ])("%i x %i", (rows, columns) => {
    const a = gaussian(rows, columns, 3);
    const found = svd(a);
    expect(largestDifference(product(found), a)).toBeLessThan(1e-12);
    expect(orthonormal(transpose(found.u))).toBeLessThan(1e-12);
    expect(orthonormal(found.vt)).toBeLessThan(1e-12);
  });

  test("known spectra: equal, graded over 14 orders, and zero values", () => {
    for (const values of [
      [2, 2, 2, 2, 1],
      [1, 1e-4, 1e-8, 1e-12, 1e-14],
      [3, 1, 0, 0, 0],
      [0, 0, 0, 0, 0],
    ]) {
      const [q, p] = [qr(gaussian(7, 5, 1)).q, qr(gaussian(6, 5, 2)).q];
      const a = multiply(q, multiply(diagonal(values), p, { transB: true }));
      svd(a).s.forEach((s, i) => {
        expect(Math.abs(s - (values[i] ?? 0))).toBeLessThan(1e-14);
      });
    }
    expect([...svd(diagonal([1, 0, 3])).s]).toEqual([3, 1, 0]);
    const zeroInside = matrix(3, 3, [1, 1, 0, 0, 0, 1, 0, 0, 2]);
    expect(largestDifference(product(svd(zeroInside)), zeroInside)).toBeLessThan(1e-14);
  });

  test("empty matrices, and entries that are no numbers", () => {
    expect(svd(matrix(0, 3)).s).toHaveLength(0);
    expect(() => svd(matrix(1, 1, [Number.NaN]))).toThrow(expect.objectContaining({ code: "MATRIX_NOT_FINITE" }));
    expect(() => matrix(2, 2, [1])).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
  });
});

describe("randomizedSvd", () => {
  /** Singular values i^-0.5, as trained weights have. */
  const slow = (n: number): Matrix => {
    const values = Array.from({ length: n }, (_, i) => (i + 1) ** -0.5);
    return multiply(qr(gaussian(n + 20, n, 5)).q, multiply(diagonal(values), qr(gaussian(n, n, 6)).q));
  };

  test("the leading values to 1e-5 on a slowly falling spectrum, and the best approximation of its rank", async () => {
    const a = slow(160);
    const found = await randomizedSvd(a, 8, { seed: 1 });
    found.s.forEach((s, i) => {
      expect(Math.abs(s * Math.sqrt(i + 1) - 1)).toBeLessThan(1e-5);
    });
    const error = frobeniusNorm(subtract(a, product(found)));
    const best = Math.sqrt(Array.from({ length: 152 }, (_, i) => 1 / (i + 9)).reduce((sum, x) => sum + x, 0));
    expect(error / best).toBeLessThan(1 + 1e-6);
    expect(orthonormal(found.vt)).toBeLessThan(1e-12);
    expect(await randomizedSvd(a, 8, { seed: 1 })).toEqual(found);
  });

  test("wide matrices, another product, exact ranks and a rank that is none", async () => {
    const low = multiply(gaussian(40, 4, 1), gaussian(4, 90, 2));
    let calls = 0;
    const counted = await randomizedSvd(low, 4, {
      oversampling: 4,
      multiply: async (a, b, options) => {
        calls++;
        return multiply(a, b, options);
      },
    });
    expect(largestDifference(product(counted), low)).toBeLessThan(1e-12);
    expect(calls).toBe(2 + 2 * 8);
    expect((await randomizedSvd(gaussian(5, 5, 1), 5)).s).toHaveLength(5);
    await expect(randomizedSvd(low, 41)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });
});

test("qr: orthonormal, triangular, positive on request", () => {
  fc.assert(
    fc.property(anyMatrix, fc.boolean(), (a, positive) => {
      const { q, r } = qr(a, { positive });
      expect(largestDifference(multiply(q, r), a)).toBeLessThanOrEqual(1e-13 * frobeniusNorm(a));
      expect(orthonormal(transpose(q))).toBeLessThan(1e-12);
      for (let i = 0; i < r.rows; i++) {
        if (positive) expect(r.data[i * r.columns + i]).toBeGreaterThanOrEqual(0);
        for (let j = 0; j < Math.min(i, r.columns); j++) expect(r.data[i * r.columns + j]).toBe(0);
      }
    }),
    { numRuns: 200 },
  );
  const a = gaussian(150, 90, 8);
  expect(largestDifference(multiply(qr(a).q, qr(a).r), a)).toBeLessThan(1e-12);
});

const permuted = (a: Matrix, permutation: Int32Array): Matrix =>
  matrixFrom(a.rows, a.columns, (i, j) => a.data[permutation[i]! * a.columns + j]!);

test("lu and ldu: PA = LU = LDU, multipliers at most 1, unit diagonals", () => {
  fc.assert(
    fc.property(anyMatrix, (a) => {
      const size = frobeniusNorm(a);
      const { permutation, l, u } = luPartialPivot(a);
      expect(largestDifference(multiply(l, u), permuted(a, permutation))).toBeLessThanOrEqual(1e-13 * size);
      for (const x of l.data) expect(Math.abs(x)).toBeLessThanOrEqual(1);
      const full = ldu(a);
      const back = multiply(full.l, multiply(diagonal(full.d), full.u));
      // A pivot that is nothing but rounding is left out, with its row.
      expect(largestDifference(back, permuted(a, full.permutation))).toBeLessThanOrEqual(1e-11 * size);
      for (let i = 0; i < full.u.rows; i++) expect(full.u.data[i * full.u.columns + i]).toBe(1);
    }),
    { numRuns: 300 },
  );
});

test("solve, inverse and expm against identities", () => {
  const a = add(gaussian(30, 30, 4), scale(identity(30), 8));
  const b = gaussian(30, 3, 5);
  expect(largestDifference(multiply(a, solve(a, b)), b)).toBeLessThan(1e-12);
  expect(largestDifference(multiply(inverse(a), a), identity(30))).toBeLessThan(1e-12);
  expect(() => solve(matrix(2, 2, [1, 2, 2, 4]), matrix(2, 1))).toThrow(
    expect.objectContaining({ code: "SINGULAR_MATRIX" }),
  );
  expect(() => solve(matrix(2, 3), matrix(2, 1))).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
  // The exponential of a skew matrix is a rotation; exp(A) exp(-A) = I.
  const skew = subtract(gaussian(12, 12, 6), transpose(gaussian(12, 12, 6)));
  expect(orthonormal(expm(skew))).toBeLessThan(1e-12);
  expect(largestDifference(multiply(expm(skew), expm(scale(skew, -1))), identity(12))).toBeLessThan(1e-12);
  expect(largestDifference(expm(matrix(3, 3)), identity(3))).toBe(0);
});

test("cholesky and symmetricEigen: products give the matrix back", () => {
  const x = gaussian(60, 40, 7);
  const gram = multiply(x, x, { transA: true });
  const l = cholesky(gram);
  expect(largestDifference(multiply(l, l, { transB: true }), gram)).toBeLessThan(1e-11);
  expect(() => cholesky(diagonal([1, -1]))).toThrow(expect.objectContaining({ code: "MATRIX_NOT_POSITIVE_DEFINITE" }));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(1000), (n, seed) => {
      const g = gaussian(n, n, seed);
      const a = add(g, transpose(g));
      const { values, vectors } = symmetricEigen(a);
      const back = multiply(vectors, multiply(diagonal(values), vectors, { transB: true }));
      expect(largestDifference(back, a)).toBeLessThan(1e-12 * n);
      expect(orthonormal(transpose(vectors))).toBeLessThan(1e-12);
      for (let i = 1; i < n; i++) expect(values[i]!).toBeGreaterThanOrEqual(values[i - 1]!);
    }),
    { numRuns: 60 },
  );
  expect([...symmetricEigen(gram).values].every((v) => v > 0)).toBe(true);
  expect(() => symmetricEigen(matrix(2, 2, [0, 1, 2, 0]))).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
});
