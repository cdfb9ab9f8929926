import fc from "fast-check";
import { expect, test } from "vitest";
import { createRandom } from "../random/random.ts";
import { circulant, circularConvolution } from "./circulant.ts";
import { dct2, dctMatrix, idct2 } from "./dct.ts";
import { fft, ifft } from "./fft.ts";
import { identity, kron, type Matrix, matrix, matrixFrom, multiply, transpose } from "./matrix.ts";
import { largestDifference } from "./measure.ts";
import { type RingCore, type RingMatrixCore, ringChain, ringKronecker, ringMatrix } from "./tensor-ring.ts";

function gaussian(rows: number, columns: number, seed: number): Matrix {
  const random = createRandom(seed);
  return matrixFrom(rows, columns, () => random.normal());
}

test("products: any sizes, against the definition, with every transposition", () => {
  const size = fc.integer({ min: 1, max: 9 });
  fc.assert(
    fc.property(size, size, size, fc.boolean(), fc.boolean(), (m, k, n, transA, transB) => {
      const [a, b] = [gaussian(m, k, m), gaussian(k, n, n)];
      const expected = matrixFrom(m, n, (i, j) => {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a.data[i * k + l]! * b.data[l * n + j]!;
        return sum;
      });
      const found = multiply(transA ? transpose(a) : a, transB ? transpose(b) : b, { transA, transB });
      expect(largestDifference(found, expected)).toBeLessThan(1e-13);
    }),
  );
  // Above the sizes of a block, with remainders.
  const [a, b] = [gaussian(7, 131, 1), gaussian(131, 517, 2)];
  const row = multiply(matrix(1, 131, a.data.slice(131, 262)), b);
  expect(largestDifference(row, matrix(1, 517, multiply(a, b).data.slice(517, 1034)))).toBeLessThan(1e-12);
  expect(() => multiply(a, a)).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
});

test.each([1, 2, 3, 7, 64, 768])("DCT of size %i is orthonormal, and the fast one equals the matrix", (n) => {
  const c = dctMatrix(n);
  expect(largestDifference(multiply(c, c, { transB: true }), identity(n))).toBeLessThan(1e-12);
  const a = gaussian(5, n, n);
  const direct = multiply(multiply(dctMatrix(5), a), c, { transB: true });
  expect(largestDifference(dct2(a), direct)).toBeLessThan(1e-11);
  expect(largestDifference(idct2(dct2(a)), a)).toBeLessThan(1e-12);
});

test("one coefficient is one cosine pattern", () => {
  const s = matrix(4, 6);
  s.data[1 * 6 + 2] = 3;
  const [c, d] = [dctMatrix(4), dctMatrix(6)];
  const pattern = matrixFrom(4, 6, (i, j) => 3 * c.data[4 + i]! * d.data[12 + j]!);
  expect(largestDifference(idct2(s), pattern)).toBeLessThan(1e-14);
});

test("Fourier transforms of any length and back", () => {
  for (const n of [1, 2, 3, 5, 16, 17, 30, 97, 128, 768, 1000]) {
    const x = gaussian(2, n, n);
    const [re, im] = [x.data.slice(0, n), x.data.slice(n)];
    const back = ifft(fft({ re, im }));
    for (let i = 0; i < n; i++) {
      expect(Math.abs(back.re[i]! - re[i]!)).toBeLessThan(1e-12);
      expect(Math.abs(back.im[i]! - im[i]!)).toBeLessThan(1e-12);
    }
  }
  expect(() => fft({ re: new Float64Array(2), im: new Float64Array(1) })).toThrow(
    expect.objectContaining({ code: "SHAPE_MISMATCH" }),
  );
});

test("circular convolution is a product with the circulant matrix", () => {
  for (const n of [1, 2, 5, 8, 31]) {
    const [x, y] = [gaussian(1, n, 1), gaussian(n, 1, 2)];
    const found = matrix(n, 1, circularConvolution(x.data, y.data));
    expect(largestDifference(found, multiply(circulant(x.data), y))).toBeLessThan(1e-12);
  }
  expect(() => circularConvolution([1], [1, 2])).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
});

test("Kronecker products: (A ⊗ B)(C ⊗ D) = AC ⊗ BD", () => {
  const [a, b, c, d] = [gaussian(2, 3, 1), gaussian(4, 2, 2), gaussian(3, 2, 3), gaussian(2, 5, 4)];
  expect(largestDifference(multiply(kron(a, b), kron(c, d)), kron(multiply(a, c), multiply(b, d)))).toBeLessThan(1e-13);
});

const core = (size: number, rank: number, seed: number): RingCore => ({
  size,
  rank,
  data: gaussian(size, rank * rank, seed).data,
});
const block = ({ rank, data }: RingCore, i: number): Matrix =>
  matrix(rank, rank, data.slice(i * rank * rank, (i + 1) * rank * rank));
const trace = ({ rows, data }: Matrix): number =>
  Array.from({ length: rows }, (_, i) => data[i * (rows + 1)]!).reduce((sum, x) => sum + x, 0);

test("tensor rings equal their definition, the first index running fastest", () => {
  const [b1, b2, c1, c2] = [core(2, 3, 1), core(4, 3, 2), core(3, 3, 3), core(2, 3, 4)];
  const expected = matrixFrom(8, 6, (o, j) =>
    trace(
      [block(b1, o % 2), block(b2, Math.floor(o / 2)), block(c1, j % 3), block(c2, Math.floor(j / 3))].reduce((p, m) =>
        multiply(p, m),
      ),
    ),
  );
  expect(largestDifference(ringMatrix([b1, b2], [c1, c2]), expected)).toBeLessThan(1e-12);
  const chain = ringChain([b1, b2]);
  expect(largestDifference(block(chain, 5), multiply(block(b1, 1), block(b2, 2)))).toBeLessThan(1e-13);
  expect(() => ringChain([])).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
  expect(() => ringChain([b1, core(2, 2, 1)])).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
});

const matrixCore = (
  rows: number,
  columns: number,
  rank: number,
  f: (i: number, j: number) => number,
): RingMatrixCore => ({
  rows,
  columns,
  rank,
  data: Float64Array.from({ length: rows * columns * rank * rank }, (_, at) => {
    const pair = Math.floor(at / (rank * rank));
    return f(Math.floor(pair / columns), pair % columns);
  }),
});

test("ring matrices: rank 1 is a Kronecker product, identities of every rank give the identity", () => {
  const [a, b] = [gaussian(2, 3, 1), gaussian(3, 2, 2)];
  const found = ringKronecker([
    matrixCore(2, 3, 1, (i, j) => a.data[i * 3 + j]!),
    matrixCore(3, 2, 1, (i, j) => b.data[i * 2 + j]!),
  ]);
  expect(largestDifference(found, kron(b, a))).toBeLessThan(1e-14);
  for (const rank of [1, 2, 3]) {
    const unit = (n: number): RingMatrixCore => matrixCore(n, n, rank, (i, j) => (i === j ? 1 / rank : 0));
    expect(largestDifference(ringKronecker([unit(2), unit(3), unit(2)]), identity(12))).toBeLessThan(1e-15);
  }
});
