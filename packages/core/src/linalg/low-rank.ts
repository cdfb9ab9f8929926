import { createRandom } from "../random/random.ts";
import { type Matrix, matrixFrom, multiply, rowRange, scaleColumns, scaleRows, subtract, transpose } from "./matrix.ts";
import { qr } from "./qr.ts";
import { type Svd, svd } from "./svd.ts";

/**
 * SVD of a product L·R given by its factors, L [m, k] and R [k, n], without making the product: L = Q1·T1, Rᵀ = Q2·T2, and
 * the SVD of T1·T2ᵀ [k, k] gives the rest. Some (m + n) k² operations; k at most min(m, n), else the product is made.
 */
export function productSvd(left: Matrix, right: Matrix): Svd {
  if (left.columns > Math.min(left.rows, right.columns)) return svd(multiply(left, right));
  const [l, r] = [qr(left), qr(transpose(right))];
  const inner = svd(multiply(l.r, r.r, { transB: true }));
  return { u: multiply(l.q, inner.u), s: inner.s, vt: multiply(inner.vt, r.q, { transB: true }) };
}

/**
 * The best approximation of rank `rank` (Eckart and Young 1936) as two factors of equal size: left [m, rank] = U·sqrt(S),
 * right [rank, n] = sqrt(S)·Vᵀ.
 */
export function leadingFactors({ u, s, vt }: Svd, rank: number): { readonly left: Matrix; readonly right: Matrix } {
  const roots = s.subarray(0, rank).map(Math.sqrt);
  return {
    left: scaleColumns(transpose(rowRange(transpose(u), 0, rank)), roots),
    right: scaleRows(rowRange(vt, 0, rank), roots),
  };
}

/** Columns of a sketch beyond the rank that is looked for. */
const OVERSAMPLING = 8;

/**
 * SVD of a matrix of rank at most `most`, up to `tolerance` times its Frobenius norm; null when its rank is higher. The range is
 * found from a random sketch (Halko et al. 2009, arXiv 0909.4061) and the rest is measured, so what is returned is right whatever was
 * drawn. Some 6 m n (most + 8) operations in the place of 12 n³.
 */
export function lowRankSvd(a: Matrix, most: number, tolerance: number): Svd | null {
  const random = createRandom(0);
  const sketch = matrixFrom(a.columns, Math.min(most + OVERSAMPLING, a.rows, a.columns), () => random.normal());
  const { q } = qr(multiply(a, sketch));
  const inner = multiply(q, a, { transA: true });
  const rest = frobeniusNorm(subtract(a, multiply(q, inner)));
  return rest <= tolerance * frobeniusNorm(a) ? productSvd(q, inner) : null;
}

const frobeniusNorm = ({ data }: Matrix): number => Math.sqrt(data.reduce((sum, v) => sum + v * v, 0));
