import { wht } from "../linalg/hadamard.ts";
import { solve } from "../linalg/lu.ts";
import { type Matrix, matrix, multiply, scale, transpose } from "../linalg/matrix.ts";

/** A problem of QWHA's start in the transformed domain: the error of a quantised weight, seen by calibration data. */
export interface TransformedError {
  /** All coefficients of the error, E·Hᵀ [out, in]: with all of them the error is gone. */
  readonly spectrum: Matrix;
  /** Products of the basis' columns, H·C·Hᵀ / in² [in, in], C the damped sum of xᵀ·x. */
  readonly gram: Matrix;
  /** Products of the basis' columns with the error, E·C·Hᵀ / in [out, in]. */
  readonly target: Matrix;
}

/** Share of the mean diagonal entry that is added to the sum of xᵀ·x. */
export const DAMPING = 1e-4;

/**
 * The error E [out, in] of a quantised weight and the sum of xᵀ·x [in, in] of its module, transformed. With R the root of the damped sum, C = RᵀR, the basis is N =
 * R·Hᵀ / in and N·Fᵀ what coefficients F do to R·Eᵀ: only products of N's columns are needed, so R is not made. As the specification of
 * the reference has it, the whole spectrum is E·Hᵀ, for R cancels. Costs three transforms and a product of [out, in] with [in, in].
 */
export function transformError(error: Matrix, inputs: Matrix, damping = DAMPING): TransformedError {
  const n = inputs.rows;
  const c = matrix(n, n, inputs.data.slice());
  let mean = 0;
  for (let i = 0; i < n; i++) mean += (c.data[i * (n + 1)] as number) / n;
  for (let i = 0; i < n; i++) c.data[i * (n + 1)] = (c.data[i * (n + 1)] as number) + damping * mean;
  return {
    spectrum: wht(error),
    gram: scale(wht(transpose(wht(c))), 1 / n ** 2),
    target: scale(wht(multiply(error, c)), 1 / n),
  };
}

const rowOf = ({ columns, data }: Matrix, i: number): Float64Array => data.subarray(i * columns, (i + 1) * columns);

/**
 * AdaAlloc: how many of `budget` coefficients each output gets: its share of the norms to the power `temperature`, rounded down and cut at `most`; what is
 * left goes evenly to those that are not full, its rest one each to those with the fewest. The counts add up to the budget exactly.
 */
export function allocate(norms: ArrayLike<number>, budget: number, most: number, temperature = 1): Int32Array {
  const weights = Float64Array.from(norms, (v) => v ** temperature);
  const total = weights.reduce((a, b) => a + b, 0);
  const share = (i: number): number => (total > 0 ? (weights[i] as number) / total : 1 / weights.length);
  const counts = Int32Array.from({ length: weights.length }, (_, i) => Math.min(most, Math.floor(share(i) * budget)));
  let left = Math.min(budget, most * counts.length) - counts.reduce((a, b) => a + b, 0);
  while (left > 0) {
    const open = [...counts.keys()].filter((i) => (counts[i] as number) < most);
    const each = Math.floor(left / open.length);
    const chosen =
      each > 0 ? open : open.sort((a, b) => (counts[a] as number) - (counts[b] as number) || a - b).slice(0, left);
    for (const i of chosen) {
      const more = Math.min(Math.max(1, each), most - (counts[i] as number));
      counts[i] = (counts[i] as number) + more;
      left -= more;
    }
  }
  return counts;
}

/** Places of the `count` coefficients of one output that explain most: the largest |N[:, j]|² X[j]², ascending. */
export function selectPlaces({ spectrum, gram }: TransformedError, output: number, count: number): Int32Array {
  const row = rowOf(spectrum, output);
  const importance = row.map((v, j) => v * v * (gram.data[j * (gram.columns + 1)] as number));
  const order = [...row.keys()].sort((a, b) => (importance[b] as number) - (importance[a] as number) || a - b);
  return Int32Array.from(order.slice(0, count)).sort();
}

/** Least squares for the coefficients of one output at given places: what is left of its error is as small as it can be. */
export function refine({ gram, target }: TransformedError, output: number, places: Int32Array): Float64Array {
  const k = places.length;
  if (k === 0) return new Float64Array();
  const own = matrix(k, k);
  const row = rowOf(target, output);
  places.forEach((from, a) => {
    places.forEach((to, b) => {
      own.data[a * k + b] = gram.data[from * gram.columns + to] as number;
    });
  });
  return solve(
    own,
    matrix(
      k,
      1,
      Float64Array.from(places, (j) => row[j] as number),
    ),
  ).data;
}

/** Coefficients in the order of their outputs. */
export interface Coefficients {
  /** Output and transform index of each. */
  readonly rows: Int32Array;
  readonly columns: Int32Array;
  /** F at these places: E is nearest to F·H / in. */
  readonly values: Float64Array;
}

/** The whole start: AdaAlloc, selection, refinement. Costs a solve of size count per output beside {@link transformError}. */
export function startCoefficients(transformed: TransformedError, budget: number): Coefficients {
  const { spectrum } = transformed;
  const norms = Float64Array.from({ length: spectrum.rows }, (_, i) => Math.hypot(...rowOf(spectrum, i)));
  const counts = allocate(norms, budget, spectrum.columns);
  const [rows, columns, values] = [new Int32Array(budget), new Int32Array(budget), new Float64Array(budget)];
  let at = 0;
  for (const [i, count] of counts.entries()) {
    const places = selectPlaces(transformed, i, count);
    rows.fill(i, at, at + count);
    columns.set(places, at);
    values.set(refine(transformed, i, places), at);
    at += count;
  }
  return { rows, columns, values };
}
