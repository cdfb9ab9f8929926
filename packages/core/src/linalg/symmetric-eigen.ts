import { PeftError } from "../errors.ts";
import { createArena } from "./arena.ts";
import { accumulate, reflect } from "./householder.ts";
import type { Kernels } from "./kernels.ts";
import { type Matrix, matrix, transpose } from "./matrix.ts";
import { checkFinite, checkSquare, frobeniusNorm } from "./measure.ts";
import { RowRotations } from "./rotations.ts";

/** A = V·diag(values)·Vᵀ: eigenvalues ascending, eigenvectors as the columns of V. */
export interface SymmetricEigen {
  readonly values: Float64Array;
  readonly vectors: Matrix;
}

const epsilon = 2 ** -52;
const sweepsPerValue = 60;

interface Tridiagonal {
  readonly diagonal: Float64Array;
  readonly off: Float64Array;
  readonly kernels: Kernels;
  /** Rows are the columns of Q with A = Q·T·Qᵀ. */
  readonly qt: Float64Array;
}

/**
 * Reduction to tridiagonal form by Householder reflections: A := H A H takes v wᵀ + w vᵀ from A, w = p - (tau / 2)(pᵀv) v,
 * p = tau A v. Golub and Van Loan, section 8.3.1.
 */
function tridiagonalize(source: Matrix): Tridiagonal {
  const n = source.rows;
  const arena = createArena(3 * n * n + n, 4);
  const { array, kernels } = arena;
  const a = array(n * n);
  a.set(source.data);
  const off = new Float64Array(Math.max(0, n - 1));
  const vectors = array(Math.max(0, n - 1) * n);
  const taus = new Float64Array(Math.max(0, n - 1));
  const w = array(n);
  for (let k = 0; k < n - 1; k++) {
    const first = k + 1;
    const count = n - first;
    const at = k * n + first;
    for (let j = first; j < n; j++) vectors[k * n + j] = a[k * n + j] as number;
    const { tau, beta } = reflect(vectors, at, count);
    taus[k] = tau;
    off[k] = beta;
    if (tau === 0) continue;
    for (let i = first; i < n; i++) w[i] = tau * kernels.dot(a, i * n + first, vectors, at, count);
    kernels.addScaled((-tau / 2) * kernels.dot(w, first, vectors, at, count), vectors, at, w, first, count);
    for (let i = first; i < n; i++) {
      kernels.addScaled(-(vectors[k * n + i] as number), w, first, a, i * n + first, count);
      kernels.addScaled(-(w[i] as number), vectors, at, a, i * n + first, count);
    }
  }
  const diagonal = Float64Array.from({ length: n }, (_, i) => a[i * (n + 1)] as number);
  return { diagonal, off, kernels, qt: accumulate(arena, { vectors, taus, width: n, first: 1 }, n) };
}

/** One implicit QR sweep with Wilkinson's shift over rows lo to hi. Golub and Van Loan, section 8.3.5. */
function sweep(d: Float64Array, e: Float64Array, lo: number, hi: number, rotations: RowRotations): void {
  const last = e[hi - 1] as number;
  const half = ((d[hi - 1] as number) - (d[hi] as number)) / 2;
  const shift = (d[hi] as number) - (last * last) / (half + (half >= 0 ? 1 : -1) * Math.hypot(half, last));
  let x = (d[lo] as number) - shift;
  let z = e[lo] as number;
  rotations.begin(lo);
  for (let k = lo; k < hi; k++) {
    const r = Math.hypot(x, z);
    const [c, s] = r === 0 ? [1, 0] : [x / r, z / r];
    if (k > lo) e[k - 1] = r;
    const [p, q, b] = [d[k] as number, d[k + 1] as number, e[k] as number];
    const mixed = s * (q - p) + 2 * c * b;
    d[k] = p + s * mixed;
    d[k + 1] = q - s * mixed;
    e[k] = c * mixed - b;
    x = e[k] as number;
    if (k < hi - 1) {
      z = s * (e[k + 1] as number);
      e[k + 1] = c * (e[k + 1] as number);
    }
    rotations.add(c, s);
  }
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix: tridiagonal form, then implicit QR iterations. The upper triangle counts,
 * the lower one must mirror it up to rounding. Some 10 n³ operations.
 * @throws PeftError SHAPE_MISMATCH for a matrix that is not square or not symmetric, MATRIX_NOT_FINITE
 * @example
 * symmetricEigen(matrix(2, 2, [2, 1, 1, 2])).values; // Float64Array [1, 3]
 */
export function symmetricEigen(a: Matrix): SymmetricEigen {
  checkSquare(a, "symmetricEigen");
  checkFinite(a, "symmetricEigen");
  const n = a.rows;
  const size = frobeniusNorm(a);
  const even = matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const [x, y] = [a.data[i * n + j] as number, a.data[j * n + i] as number];
      if (Math.abs(x - y) > 1e-6 * size) {
        throw new PeftError(
          "SHAPE_MISMATCH",
          `expected a symmetric matrix, received ${x} at [${i}, ${j}] and ${y} across.`,
        );
      }
      even.data[i * n + j] = (x + y) / 2;
    }
  }
  const { diagonal: d, off: e, kernels, qt } = tridiagonalize(even);
  const rotations = new RowRotations(kernels, qt, n, n);
  let budget = sweepsPerValue * n;
  for (let hi = n - 1; hi > 0; ) {
    let lo = hi;
    for (; lo > 0; lo--) {
      const neighbours = Math.abs(d[lo - 1] as number) + Math.abs(d[lo] as number);
      if (Math.abs(e[lo - 1] as number) <= epsilon * neighbours + epsilon * epsilon * size) {
        e[lo - 1] = 0;
        break;
      }
    }
    if (lo === hi) {
      hi--;
      continue;
    }
    if (budget-- === 0) throw new PeftError("EIGEN_NOT_CONVERGED", `no convergence in ${sweepsPerValue * n} sweeps.`);
    sweep(d, e, lo, hi, rotations);
  }
  rotations.flush();
  const by = Array.from(d.keys()).sort((i, j) => (d[i] as number) - (d[j] as number));
  const rows = matrix(n, n);
  by.forEach((from, to) => {
    rows.data.set(qt.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(by, (i) => d[i] as number), vectors: transpose(rows) };
}
