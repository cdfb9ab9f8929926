import { fft, realFft } from "./fft.ts";
import { type Matrix, matrix, matrixFrom, transpose } from "./matrix.ts";

/** Scale of coefficient k of n in the orthonormal transform. */
const scaleOf = (k: number, n: number): number => Math.sqrt((k === 0 ? 1 : 2) / n);

/**
 * Orthonormal DCT-II matrix C [n, n]: C[k, j] = scale_k cos(pi (2 j + 1) k / (2 n)), scale_0 = sqrt(1 / n), else sqrt(2 / n);
 * C·Cᵀ = I. Row k holds frequency k.
 * @example
 * dctMatrix(1).data[0]; // 1
 */
export const dctMatrix = (n: number): Matrix =>
  // (2 j + 1) k modulo 4 n keeps the angle small and exact.
  matrixFrom(n, n, (k, j) => scaleOf(k, n) * Math.cos((Math.PI * (((2 * j + 1) * k) % (4 * n))) / (2 * n)));

/** DCT-II of one row by a Fourier transform of the same length (Makhoul 1980): even entries upwards, odd ones downwards. */
function forward(x: Float64Array): Float64Array {
  const n = x.length;
  const reordered = new Float64Array(n);
  for (let j = 0; j < n; j++) reordered[j % 2 === 0 ? j / 2 : n - 1 - (j - 1) / 2] = x[j] as number;
  const { re, im } = realFft(reordered);
  return Float64Array.from({ length: n }, (_, k) => {
    const angle = (Math.PI * k) / (2 * n);
    return scaleOf(k, n) * ((re[k] as number) * Math.cos(angle) + (im[k] as number) * Math.sin(angle));
  });
}

/** The inverse of {@link forward}: the spectrum is put together from coefficients k and n - k. */
function backward(y: Float64Array): Float64Array {
  const n = y.length;
  const re = new Float64Array(n);
  const im = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    const a = (y[k] as number) / scaleOf(k, n);
    const b = k === 0 ? 0 : (y[n - k] as number) / scaleOf(n - k, n);
    const angle = (Math.PI * k) / (2 * n);
    // (a - i b) exp(i angle), conjugated: the inverse transform is a forward one of the conjugate.
    re[k] = a * Math.cos(angle) + b * Math.sin(angle);
    im[k] = b * Math.cos(angle) - a * Math.sin(angle);
  }
  const { re: values } = fft({ re, im });
  return Float64Array.from({ length: n }, (_, j) => (values[j % 2 === 0 ? j / 2 : n - 1 - (j - 1) / 2] as number) / n);
}

function mapRows(a: Matrix, f: (row: Float64Array) => Float64Array): Matrix {
  const out = matrix(a.rows, a.columns);
  for (let i = 0; i < a.rows; i++) out.data.set(f(a.data.subarray(i * a.columns, (i + 1) * a.columns)), i * a.columns);
  return out;
}

const bothWays = (a: Matrix, f: (row: Float64Array) => Float64Array): Matrix =>
  transpose(mapRows(transpose(mapRows(a, f)), f));

/**
 * Two-dimensional orthonormal DCT-II: C_m·A·C_nᵀ for A [m, n], in m n log(m n) operations. SciPy's `dctn(a, norm="ortho")`.
 * @example
 * dct2(matrix(1, 1, [3])).data[0]; // 3
 */
export const dct2 = (a: Matrix): Matrix => bothWays(a, forward);

/** The inverse of {@link dct2} (DCT-III): C_mᵀ·A·C_n. */
export const idct2 = (a: Matrix): Matrix => bothWays(a, backward);
