import { mean } from "./mean.ts";

/** Student's t at 97.5 % for 1, 2, ... degrees of freedom. */
const QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** Where the mean of a difference lies. */
export interface PairedInterval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Mean of a - b over pairs (the same seed, the same draw), with its 95 % interval by Student's t.
 * @throws RangeError without 2 to 31 pairs
 * @example
 * pairedInterval([3, 5, 7], [1, 2, 3]); // { mean: 3, low: 0.516, high: 5.484 }
 */
export function pairedInterval(a: readonly number[], b: readonly number[]): PairedInterval {
  const quantile = QUANTILES[a.length - 2];
  if (a.length !== b.length || quantile === undefined)
    throw new RangeError(`Expected 2 to 31 pairs, received ${a.length} and ${b.length} values.`);
  const differences = a.map((value, i) => value - (b[i] as number));
  const centre = mean(differences);
  const variance = differences.reduce((sum, d) => sum + (d - centre) ** 2, 0) / (a.length - 1);
  const half = quantile * Math.sqrt(variance / a.length);
  return { mean: centre, low: centre - half, high: centre + half };
}
