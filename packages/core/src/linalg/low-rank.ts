import { type Matrix, multiply, rowRange, scaleColumns, scaleRows, transpose } from "./matrix.ts";
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
