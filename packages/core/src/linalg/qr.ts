import { createArena } from "./arena.ts";
import { accumulate, reflect, reflectionBlock, reflectRowBy } from "./householder.ts";
import { type Matrix, matrix, transpose } from "./matrix.ts";
import { checkFinite } from "./measure.ts";

/** A = Q·R: Q [m, k] with orthonormal columns, R [k, n] upper trapezoidal, k = min(m, n). */
export interface Qr {
  readonly q: Matrix;
  readonly r: Matrix;
}

/**
 * QR decomposition by Householder reflections, the thin one. The diagonal of R may be negative, as LAPACK's.
 * The work is done on the transposed matrix, where columns are contiguous. Some 4 m n k - 4/3 k³ operations with Q.
 *
 * @param options.positive makes the diagonal of R >= 0, which makes the decomposition unique for full rank. Default false.
 * @throws PeftError MATRIX_NOT_FINITE
 * @example
 * const { q, r } = qr(matrix(2, 1, [3, 4])); // r = [-5], q = [-0.6, -0.8]
 */
export function qr(a: Matrix, options: { readonly positive?: boolean } = {}): Qr {
  checkFinite(a, "qr");
  const { rows: m, columns: n } = a;
  const k = Math.min(m, n);
  const arena = createArena((n + k) * m, 2);
  const { kernels } = arena;
  const columns = arena.array(n * m);
  columns.set(transpose(a).data);
  const taus = new Float64Array(k);
  const diagonal = new Float64Array(k);
  const reflectors = { vectors: columns, taus, width: m, first: 0 };
  for (let from = 0; from < k; from += reflectionBlock) {
    const to = Math.min(k, from + reflectionBlock);
    for (let j = from; j < to; j++) {
      const { tau, beta } = reflect(columns, j * m + j, m - j);
      taus[j] = tau;
      diagonal[j] = beta;
      for (let c = j + 1; c < to; c++) reflectRowBy(kernels, reflectors, j, j + 1, columns, c);
    }
    for (let c = to; c < n; c++) reflectRowBy(kernels, reflectors, from, to, columns, c);
  }
  const r = matrix(k, n);
  for (let i = 0; i < k; i++) {
    r.data[i * n + i] = diagonal[i] as number;
    for (let j = i + 1; j < n; j++) r.data[i * n + j] = columns[j * m + i] as number;
  }
  const qt = accumulate(arena, reflectors, k);
  if (options.positive) {
    for (let i = 0; i < k; i++) {
      if ((diagonal[i] as number) >= 0) continue;
      for (let j = i; j < n; j++) r.data[i * n + j] = -(r.data[i * n + j] as number);
      for (let j = 0; j < m; j++) qt[i * m + j] = -(qt[i * m + j] as number);
    }
  }
  return { q: transpose(matrix(k, m, qt)), r };
}
