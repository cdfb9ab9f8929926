import { PeftError } from "../errors.ts";
import { checkSameLength } from "./confusion-matrix.ts";

function checkFinite(values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new PeftError("METRIC_INPUT", `expected finite numbers, received ${values[i]} at position ${i}.`);
    }
  }
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] as number;
  return sum / values.length;
}

/**
 * Pearson's linear correlation, in two passes (centred first, so that large offsets do not cancel).
 *
 * @returns a number in [-1, 1]; NaN when one side is constant, as scipy has it: the correlation is undefined then.
 * @throws PeftError METRIC_INPUT for different lengths, fewer than two values or values that are not finite.
 * @example
 * pearson([1, 2, 3], [2, 4, 7]); // 0.9933992677987827
 */
export function pearson(a: ArrayLike<number>, b: ArrayLike<number>): number {
  checkSameLength(a, b, 2);
  checkFinite(a);
  checkFinite(b);
  const [meanA, meanB] = [mean(a), mean(b)];
  let [products, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const x = (a[i] as number) - meanA;
    const y = (b[i] as number) - meanB;
    products += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  if (squaresA === 0 || squaresB === 0) return Number.NaN;
  // Two roots instead of the root of the product, which could overflow.
  return Math.max(-1, Math.min(1, products / (Math.sqrt(squaresA) * Math.sqrt(squaresB))));
}

/**
 * Ranks from 1, smallest first; equal values share the mean of their ranks. Costs O(n log n).
 *
 * @example
 * averageRanks([10, 20, 10]); // Float64Array [1.5, 3, 1.5]
 */
export function averageRanks(values: ArrayLike<number>): Float64Array {
  const order = Uint32Array.from({ length: values.length }, (_, i) => i);
  order.sort((a, b) => (values[a] as number) - (values[b] as number));
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end] as number] === values[order[start] as number]) end++;
    for (let i = start; i < end; i++) ranks[order[i] as number] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}

/**
 * Spearman's rank correlation: Pearson's of the ranks, ties averaged.
 *
 * @returns a number in [-1, 1]; NaN when one side is constant.
 * @throws PeftError METRIC_INPUT as `pearson`.
 * @example
 * spearman([1, 2, 3, 4], [1, 4, 4, 100]); // 0.9486832980505138
 */
export function spearman(a: ArrayLike<number>, b: ArrayLike<number>): number {
  checkSameLength(a, b, 2);
  checkFinite(a);
  checkFinite(b);
  return pearson(averageRanks(a), averageRanks(b));
}
