import { PeftError } from "../errors.ts";
import { bidiagonalize } from "./bidiagonalize.ts";
import { type Matrix, matrix, multiply, transpose } from "./matrix.ts";
import { checkFinite } from "./measure.ts";
import { qr } from "./qr.ts";
import { RowRotations } from "./rotations.ts";

/** A = U·diag(s)·Vᵀ: U [m, k], s [k] descending, Vᵀ [k, n], k = min(m, n). */
export interface Svd {
  readonly u: Matrix;
  readonly s: Float64Array;
  readonly vt: Matrix;
}

const epsilon = 2 ** -52;
/** Two sweeps for a singular value are usual. */
const sweepsPerValue = 60;

/** Smaller singular value of [[f, g], [0, h]], without cancellation or overflow (the formula of LAPACK's dlas2). */
function smallerOfTwo(f: number, g: number, h: number): number {
  const [low, high] = [Math.min(Math.abs(f), Math.abs(h)), Math.max(Math.abs(f), Math.abs(h))];
  if (low === 0) return 0;
  const off = Math.abs(g);
  const [sum, difference] = [1 + low / high, (high - low) / high];
  if (off < high) {
    const ratio = (off / high) ** 2;
    return low * (2 / (Math.sqrt(sum * sum + ratio) + Math.sqrt(difference * difference + ratio)));
  }
  const ratio = high / off;
  if (ratio === 0) return (low * high) / off;
  const c = 1 / (Math.sqrt(1 + (sum * ratio) ** 2) + Math.sqrt(1 + (difference * ratio) ** 2));
  return 2 * (low * c) * ratio;
}

/**
 * One implicit QR sweep over rows lo to hi of a bidiagonal matrix (Golub and Kahan 1965, Golub and Reinsch 1970), shifted by
 * the smaller singular value of the last 2 x 2 block, or not at all when the shift would be lost in rounding.
 */
function sweep(
  d: Float64Array,
  e: Float64Array,
  lo: number,
  hi: number,
  left: RowRotations | null,
  right: RowRotations | null,
): void {
  const first = d[lo] as number;
  const near = smallerOfTwo(d[hi - 1] as number, e[hi - 1] as number, d[hi] as number);
  const shift = first === 0 || (near / first) ** 2 < epsilon ? 0 : near;
  let f = shift === 0 ? first : (Math.abs(first) - shift) * (Math.sign(first) + shift / first);
  let g = e[lo] as number;
  left?.begin(lo);
  right?.begin(lo);
  for (let i = lo; i < hi; i++) {
    let r = Math.hypot(f, g);
    let [c, s] = r === 0 ? [1, 0] : [f / r, g / r];
    if (i > lo) e[i - 1] = r;
    right?.add(c, s);
    const [di, ei, dn] = [d[i] as number, e[i] as number, d[i + 1] as number];
    f = c * di + s * ei;
    const above = c * ei - s * di;
    g = s * dn;
    const below = c * dn;
    r = Math.hypot(f, g);
    [c, s] = r === 0 ? [1, 0] : [f / r, g / r];
    d[i] = r;
    left?.add(c, s);
    f = c * above + s * below;
    d[i + 1] = c * below - s * above;
    if (i < hi - 1) {
      g = s * (e[i + 1] as number);
      e[i + 1] = c * (e[i + 1] as number);
    }
  }
  e[hi - 1] = f;
}

/** Drives `e` to zero; `d` then holds the singular values, with signs. */
function diagonalize(d: Float64Array, e: Float64Array, left: RowRotations | null, right: RowRotations | null): void {
  const n = d.length;
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(d[i] as number), Math.abs(e[i] ?? 0));
  const negligible = epsilon * largest;
  let budget = sweepsPerValue * n;
  for (let hi = n - 1; hi > 0; ) {
    let lo = hi;
    while (lo > 0) {
      const off = Math.abs(e[lo - 1] as number);
      const neighbours = Math.abs(d[lo - 1] as number) + Math.abs(d[lo] as number);
      if (off <= epsilon * neighbours || off <= negligible * epsilon) {
        e[lo - 1] = 0;
        break;
      }
      lo--;
    }
    if (lo === hi) {
      hi--;
      continue;
    }
    // A zero on the diagonal means a singular value of zero: a sweep without a shift takes it to the end of the block.
    for (let i = lo; i <= hi; i++) if (Math.abs(d[i] as number) <= negligible * epsilon) d[i] = 0;
    if (budget-- === 0)
      throw new PeftError("SVD_NOT_CONVERGED", `the SVD did not converge in ${sweepsPerValue * n} sweeps.`);
    sweep(d, e, lo, hi, left, right);
  }
  left?.flush();
  right?.flush();
}

/** Power of two near the largest entry: dividing by it is exact and keeps sums of squares in range. */
function scaleOf({ data }: Matrix): number {
  let largest = 0;
  for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i] as number));
  return largest === 0 ? 1 : 2 ** Math.max(-1000, Math.min(1000, Math.floor(Math.log2(largest))));
}

const order = (s: Float64Array): number[] =>
  Array.from(s.keys()).sort((a, b) => Math.abs(s[b] as number) - Math.abs(s[a] as number));

function negate(data: Float64Array, start: number, count: number): void {
  for (let i = start; i < start + count; i++) data[i] = -(data[i] as number);
}

function sortedRows(rows: Float64Array, width: number, by: readonly number[], signs?: Float64Array): Matrix {
  const out = matrix(by.length, width);
  by.forEach((from, to) => {
    out.data.set(rows.subarray(from * width, (from + 1) * width), to * width);
    if (signs && (signs[from] as number) < 0) negate(out.data, to * width, width);
  });
  return out;
}

/** For m >= n. */
function tall(a: Matrix): Svd {
  const { rows: m, columns: n } = a;
  if (m > 1.5 * n && n > 0) {
    const { q, r } = qr(a);
    const inner = tall(r);
    return { ...inner, u: multiply(q, inner.u) };
  }
  const scale = scaleOf(a);
  const scaled = matrix(
    m,
    n,
    a.data.map((x) => x / scale),
  );
  const { diagonal: s, above, kernels, ut, vt } = bidiagonalize(scaled, true);
  if (!ut || !vt) throw new PeftError("SVD_NOT_CONVERGED", "the factors are missing.");
  diagonalize(s, above, new RowRotations(kernels, ut, n, m), new RowRotations(kernels, vt, n, n));
  const by = order(s);
  return {
    u: transpose(sortedRows(ut, m, by)),
    s: Float64Array.from(by, (i) => Math.abs(s[i] as number) * scale),
    vt: sortedRows(vt, n, by, s),
  };
}

/**
 * Singular value decomposition in double precision: reduction to bidiagonal form, then implicit QR iterations. Errors are
 * some 1e-15 of the largest singular value. Some 12 n³ operations for n x n.
 *
 * Singular vectors are unique up to sign, and for equal singular values up to rotation: compare products, not vectors.
 * @throws PeftError MATRIX_NOT_FINITE
 * @example
 * svd(matrix(2, 2, [0, 2, 1, 0])).s; // Float64Array [2, 1]
 */
export function svd(a: Matrix): Svd {
  checkFinite(a, "svd");
  if (a.rows >= a.columns) return tall(a);
  const { u, s, vt } = tall(transpose(a));
  return { u: transpose(vt), s, vt: transpose(u) };
}

/** The singular values alone, descending; about a quarter of the work of {@link svd}. */
export function singularValues(a: Matrix): Float64Array {
  checkFinite(a, "svd");
  const upright = a.rows >= a.columns ? a : transpose(a);
  const reduced = upright.rows > 1.5 * upright.columns && upright.columns > 0 ? qr(upright).r : upright;
  const scale = scaleOf(reduced);
  const { diagonal: s, above } = bidiagonalize(
    matrix(
      reduced.rows,
      reduced.columns,
      reduced.data.map((x) => x / scale),
    ),
    false,
  );
  diagonalize(s, above, null, null);
  return Float64Array.from(order(s), (i) => Math.abs(s[i] as number) * scale);
}
