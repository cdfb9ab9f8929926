import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { cholesky } from "./cholesky.ts";
import { circulant, circularConvolution } from "./circulant.ts";
import { dct2, dctMatrix } from "./dct.ts";
import { expm } from "./expm.ts";
import { fft } from "./fft.ts";
import { hadamard } from "./hadamard.ts";
import { inverse, luPartialPivot, solve } from "./lu.ts";
import { kron, type Matrix, matrix } from "./matrix.ts";
import { qr } from "./qr.ts";
import { singularValues, svd } from "./svd.ts";
import { symmetricEigen } from "./symmetric-eigen.ts";

type Rows = number[][];
interface Golden {
  svd: { a: Rows; s: number[] }[];
  qr: { a: Rows; q: Rows; r: Rows }[];
  lu: { a: Rows; order: number[]; l: Rows; u: Rows }[];
  cholesky: { a: Rows; l: Rows };
  eigen: { a: Rows; values: number[] }[];
  solve: { a: Rows; b: Rows; x: Rows };
  inverse: { a: Rows; x: Rows };
  expm: { a: Rows; x: Rows }[];
  dct2: { a: Rows; x: Rows }[];
  dctMatrix: { n: number; x: Rows }[];
  fft: { re: number[]; im: number[]; xRe: number[]; xIm: number[] }[];
  convolution: { x: number[]; y: number[]; z: number[]; circulant: Rows };
  hadamard: { n: number; x: Rows }[];
  kron: { a: Rows; b: Rows; x: Rows };
}

const file = new URL("../../../../parity/golden/linalg.json", import.meta.url);
const golden = JSON.parse(readFileSync(file, "utf8")) as Golden;
const of = (rows: Rows): Matrix => matrix(rows.length, rows[0]!.length, rows.flat());

/** Equal to SciPy's up to rounding relative to the largest number. */
function close(received: ArrayLike<number>, expected: readonly number[], tolerance = 1e-13): void {
  expect(received.length).toBe(expected.length);
  const size = Math.max(1, ...expected.map(Math.abs));
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(received[i]! - expected[i]!), `entry ${i}`).toBeLessThan(tolerance * size);
  }
}

test("singular values", () => {
  for (const { a, s } of golden.svd) {
    close(svd(of(a)).s, s);
    close(singularValues(of(a)), s);
  }
});

test("QR has LAPACK's signs", () => {
  for (const { a, q, r } of golden.qr) {
    const own = qr(of(a));
    close(own.q.data, q.flat());
    close(own.r.data, r.flat());
  }
});

test("LU chooses the same pivots", () => {
  for (const { a, order, l, u } of golden.lu) {
    const own = luPartialPivot(of(a));
    expect([...own.permutation]).toEqual(order);
    close(own.l.data, l.flat());
    close(own.u.data, u.flat());
  }
});

test("Cholesky, eigenvalues, systems, inverse, exponential", () => {
  close(cholesky(of(golden.cholesky.a)).data, golden.cholesky.l.flat());
  for (const { a, values } of golden.eigen) close(symmetricEigen(of(a)).values, values);
  close(solve(of(golden.solve.a), of(golden.solve.b)).data, golden.solve.x.flat(), 1e-12);
  close(inverse(of(golden.inverse.a)).data, golden.inverse.x.flat(), 1e-12);
  for (const { a, x } of golden.expm) close(expm(of(a)).data, x.flat(), 1e-11);
});

test("cosine, Fourier and Hadamard transforms, convolution, Kronecker product", () => {
  for (const { a, x } of golden.dct2) close(dct2(of(a)).data, x.flat());
  for (const { n, x } of golden.dctMatrix) close(dctMatrix(n).data, x.flat());
  for (const { re, im, xRe, xIm } of golden.fft) {
    const own = fft({ re: Float64Array.from(re), im: Float64Array.from(im) });
    close(own.re, xRe);
    close(own.im, xIm);
  }
  const { x, y, z, circulant: c } = golden.convolution;
  close(circularConvolution(x, y), z);
  close(circulant(x).data, c.flat());
  for (const { n, x: h } of golden.hadamard) close(hadamard(n).data, h.flat());
  close(kron(of(golden.kron.a), of(golden.kron.b)).data, golden.kron.x.flat());
});
