import type { Arena } from "./arena.ts";
import type { Kernels } from "./kernels.ts";

/**
 * Householder reflections H = I - tau v vᵀ with v = (1, ...): H x = (beta, 0, ...). Golub and Van Loan, Matrix Computations,
 * section 5.1; the sign of beta is chosen so that nothing cancels.
 */
export interface Reflector {
  readonly tau: number;
  readonly beta: number;
}

/** Norm of `count` numbers, scaled against overflow. */
export function norm(data: Float64Array, start: number, count: number): number {
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += (data[i] as number) * (data[i] as number);
  if (sum > 1e-280 && sum < 1e280) return Math.sqrt(sum);
  let largest = 0;
  for (let i = start; i < start + count; i++) largest = Math.max(largest, Math.abs(data[i] as number));
  if (largest === 0 || !Number.isFinite(largest)) return largest;
  sum = 0;
  for (let i = start; i < start + count; i++) {
    const x = (data[i] as number) / largest;
    sum += x * x;
  }
  return largest * Math.sqrt(sum);
}

/** Turns the vector at `start` into v, in place; v's leading 1 is written too. */
export function reflect(v: Float64Array, start: number, count: number): Reflector {
  const first = v[start] as number;
  const rest = norm(v, start + 1, count - 1);
  if (rest === 0) {
    v[start] = 1;
    return { tau: 0, beta: first };
  }
  const beta = first >= 0 ? -Math.hypot(first, rest) : Math.hypot(first, rest);
  const scale = 1 / (first - beta);
  // A vector of denormal numbers has no usable inverse: it is divided.
  if (Number.isFinite(scale)) for (let i = start + 1; i < start + count; i++) v[i] = (v[i] as number) * scale;
  else for (let i = start + 1; i < start + count; i++) v[i] = (v[i] as number) / (first - beta);
  v[start] = 1;
  return { tau: (beta - first) / beta, beta };
}

/** row · H for the reflector whose v stands at `at` of `v`; both stretches are contiguous. */
export function reflectRow(
  kernels: Kernels,
  row: Float64Array,
  start: number,
  v: Float64Array,
  at: number,
  count: number,
  tau: number,
): void {
  if (tau === 0) return;
  kernels.addScaled(-tau * kernels.dot(row, start, v, at, count), v, at, row, start, count);
}

/** Reflections that are applied to a row one after the other while it is in the cache. */
const block = 32;

/** Reflections by their vectors: row k of `vectors` [count, width] holds vector k from column `first + k` on. */
export interface Reflectors {
  readonly vectors: Float64Array;
  readonly taus: Float64Array;
  readonly width: number;
  readonly first: number;
}

/**
 * Product H_0 · H_1 ... of reflections as rows: row j is the product times unit vector j, for j < `rows`. Built from the last
 * reflection to the first, in blocks whose vectors stay in the second cache. Some 4 width rows² - 4/3 rows³ operations.
 */
export function accumulate(
  { array, kernels }: Arena,
  { vectors, taus, width, first }: Reflectors,
  rows: number,
): Float64Array {
  const out = array(rows * width);
  for (let j = 0; j < rows; j++) out[j * width + j] = 1;
  for (let top = taus.length; top > 0; top -= block) {
    const bottom = Math.max(0, top - block);
    for (let j = first + bottom; j < rows; j++) {
      for (let k = Math.min(top - 1, j - first); k >= bottom; k--) {
        const at = first + k;
        reflectRow(kernels, out, j * width + at, vectors, k * width + at, width - at, taus[k] as number);
      }
    }
  }
  return out;
}

/** Applies reflections `from` to `to` of {@link Reflectors} to row `row` of `rows`, in this order. */
export function reflectRowBy(
  kernels: Kernels,
  { vectors, taus, width, first }: Reflectors,
  from: number,
  to: number,
  rows: Float64Array,
  row: number,
): void {
  for (let k = from; k < to; k++) {
    const at = first + k;
    reflectRow(kernels, rows, row * width + at, vectors, k * width + at, width - at, taus[k] as number);
  }
}

export const reflectionBlock = block;
