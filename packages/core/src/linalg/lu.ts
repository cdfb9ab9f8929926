import { PeftError } from "../errors.ts";
import { type Matrix, matrix } from "./matrix.ts";
import { checkSquare } from "./measure.ts";

/** P·A = L·U: row i of P·A is row `permutation[i]` of A. L [m, k] unit lower trapezoidal, U [k, n] upper, k = min(m, n). */
export interface Lu {
  readonly permutation: Int32Array;
  readonly l: Matrix;
  readonly u: Matrix;
}

/**
 * LU decomposition with partial pivoting, |L| <= 1. Rows are exchanged whole, and the elimination runs along rows.
 * Some 2/3 n³ operations for n x n. What is not finite passes into the factors.
 * @example
 * const { permutation, l, u } = luPartialPivot(matrix(2, 2, [0, 1, 2, 3])); // permutation [1, 0], u [[2, 3], [0, 1]]
 */
export function luPartialPivot(source: Matrix): Lu {
  const { rows: m, columns: n } = source;
  const k = Math.min(m, n);
  const a = Float64Array.from(source.data);
  const permutation = Int32Array.from({ length: m }, (_, i) => i);
  const kept = new Float64Array(n);
  for (let p = 0; p < k; p++) {
    let best = p;
    for (let i = p + 1; i < m; i++) {
      if (Math.abs(a[i * n + p] as number) > Math.abs(a[best * n + p] as number)) best = i;
    }
    if (best !== p) {
      kept.set(a.subarray(p * n, (p + 1) * n));
      a.copyWithin(p * n, best * n, (best + 1) * n);
      a.set(kept, best * n);
      [permutation[p], permutation[best]] = [permutation[best] as number, permutation[p] as number];
    }
    const pivot = a[p * n + p] as number;
    if (pivot === 0) continue; // the whole column is zero
    for (let i = p + 1; i < m; i++) {
      const factor = (a[i * n + p] as number) / pivot;
      a[i * n + p] = factor;
      if (factor === 0) continue;
      for (let j = p + 1; j < n; j++) a[i * n + j] = (a[i * n + j] as number) - factor * (a[p * n + j] as number);
    }
  }
  const [l, u] = [matrix(m, k), matrix(k, n)];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < Math.min(i, k); j++) l.data[i * k + j] = a[i * n + j] as number;
    if (i < k) l.data[i * k + i] = 1;
  }
  for (let i = 0; i < k; i++) for (let j = i; j < n; j++) u.data[i * n + j] = a[i * n + j] as number;
  return { permutation, l, u };
}

/** P·A = L·diag(d)·U with unit diagonals in L [m, k] and U [k, n]. */
export interface Ldu extends Lu {
  readonly d: Float64Array;
}

/** Below this share of the largest |d| a pivot counts as zero. */
const smallestPivot = 1e-12;

/**
 * LDU decomposition: {@link luPartialPivot} with the diagonal of U taken out. Where a pivot is below 1e-12 of the largest one,
 * its row of U becomes a unit vector and d is 0; the product then differs from A by no more than that row.
 * @example
 * ldu(matrix(1, 1, [4])).d; // Float64Array [4]
 */
export function ldu(a: Matrix): Ldu {
  const { permutation, l, u } = luPartialPivot(a);
  const k = u.rows;
  const d = Float64Array.from({ length: k }, (_, i) => u.data[i * u.columns + i] as number);
  const largest = d.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  for (let i = 0; i < k; i++) {
    const row = u.data.subarray(i * u.columns, (i + 1) * u.columns);
    const pivot = d[i] as number;
    if (Math.abs(pivot) < smallestPivot * largest || pivot === 0) {
      d[i] = 0;
      row.fill(0);
    } else for (let j = i; j < row.length; j++) row[j] = (row[j] as number) / pivot;
    row[i] = 1;
  }
  return { permutation, l, d, u };
}

/**
 * X with A·X = B for a square A [n, n] and B [n, r].
 * @throws PeftError SINGULAR_MATRIX, SHAPE_MISMATCH
 * @example
 * solve(matrix(1, 1, [4]), matrix(1, 1, [8])).data; // Float64Array [2]
 */
export function solve(a: Matrix, b: Matrix): Matrix {
  checkSquare(a, "solve");
  const n = a.rows;
  const width = b.columns;
  if (b.rows !== n) throw new PeftError("SHAPE_MISMATCH", `expected ${n} rows on the right side, received ${b.rows}.`);
  const { permutation, l, u } = luPartialPivot(a);
  const x = matrix(n, width);
  for (let i = 0; i < n; i++) {
    const from = (permutation[i] as number) * width;
    x.data.set(b.data.subarray(from, from + width), i * width);
    for (let k = 0; k < i; k++) subtractRow(x, i, k, l.data[i * n + k] as number);
  }
  for (let i = n - 1; i >= 0; i--) {
    const pivot = u.data[i * n + i] as number;
    if (pivot === 0) throw new PeftError("SINGULAR_MATRIX", `expected a regular matrix, pivot ${i} of ${n} is zero.`);
    for (let k = i + 1; k < n; k++) subtractRow(x, i, k, u.data[i * n + k] as number);
    for (let j = 0; j < width; j++) x.data[i * width + j] = (x.data[i * width + j] as number) / pivot;
  }
  return x;
}

/** Row i of x minus a multiple of row k. */
function subtractRow({ data, columns }: Matrix, i: number, k: number, factor: number): void {
  if (factor === 0) return;
  for (let j = 0, to = i * columns, from = k * columns; j < columns; j++, to++, from++) {
    data[to] = (data[to] as number) - factor * (data[from] as number);
  }
}

/**
 * The inverse of a square matrix. To apply an inverse once, {@link solve} is cheaper and more accurate.
 * @throws PeftError SINGULAR_MATRIX, SHAPE_MISMATCH
 */
export function inverse(a: Matrix): Matrix {
  checkSquare(a, "inverse");
  const unit = matrix(a.rows, a.rows);
  for (let i = 0; i < a.rows; i++) unit.data[i * (a.rows + 1)] = 1;
  return solve(a, unit);
}
