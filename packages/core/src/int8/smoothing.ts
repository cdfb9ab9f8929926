import { largestCode, type WeightBits } from "./quantize-columns.ts";

/** What is known of the input of a product, per channel, over some batches. */
export interface ChannelStatistics {
  readonly max: Float32Array;
  readonly min: Float32Array;
  readonly meanSquare: Float32Array;
}

/** M [in, out] in row-major order. */
export interface Matrix {
  readonly data: Float32Array;
  readonly rows: number;
  readonly columns: number;
}

/** Exponents that are tried; 0 is no smoothing. */
const EXPONENTS = [0, 0.5, 0.75, 1] as const;
/** A multiplication of x is worth it when the expected error falls below this share. */
const WORTHWHILE = 0.5;

/**
 * s = max(1, a / median a) ^ exponent with a the largest magnitude per channel. Only large channels are made smaller: one that
 * was quiet in calibration may be loud later, and multiplied up it would take the range from all others.
 */
function factorsOf(largest: Float32Array, exponent: number): Float32Array {
  const median = [...largest].sort((a, b) => a - b)[largest.length >> 1] || 1;
  return largest.map((a) => Math.max(1, a / median) ** exponent);
}

/**
 * Expected squared rounding error of all entries of a row of round(x / s)·round(s * M), when both round to equal steps
 * independently: step_x² / 12 * |s * M|² + sum over columns of step_j² / 12 * E|x / s|², with step_x the range of x / s over
 * 255 and step_j the column's largest magnitude over the largest code.
 */
function expectedError(
  statistics: ChannelStatistics,
  matrices: readonly Matrix[],
  s: Float32Array,
  bits: WeightBits,
): number {
  let [high, low, energy] = [0, 0, 0];
  for (let i = 0; i < s.length; i++) {
    high = Math.max(high, (statistics.max[i] as number) / (s[i] as number));
    low = Math.min(low, (statistics.min[i] as number) / (s[i] as number));
    energy += (statistics.meanSquare[i] as number) / (s[i] as number) ** 2;
  }
  const stepX = (high - low) / 255;
  let error = 0;
  for (const { data, rows, columns } of matrices) {
    const largest = new Float32Array(columns);
    let squares = 0;
    for (let i = 0; i < rows; i++) {
      for (let j = 0, at = i * columns; j < columns; j++, at++) {
        const w = Math.abs((data[at] as number) * (s[i] as number));
        squares += w * w;
        if (w > (largest[j] as number)) largest[j] = w;
      }
    }
    const steps = largest.reduce((sum, w) => sum + (w / largestCode[bits]) ** 2, 0);
    error += (stepX ** 2 * squares + steps * energy) / 12;
  }
  return error;
}

/**
 * Factors s per channel for the products of one input, or null where none are needed: a few channels of a trained model are
 * often many times larger than the others, and one scale for all of x leaves the others few steps. x / s has less range, and
 * M's rows times s more; the exponent with the least expected error is taken (Xiao et al. 2022, arXiv 2211.10438, with the
 * exponent chosen by the error and not given). Four passes over the matrices.
 */
export function chooseSmoothing(
  statistics: ChannelStatistics,
  matrices: readonly Matrix[],
  bits: WeightBits,
): Float32Array | null {
  const largest = statistics.max.map((v, i) => Math.max(Math.abs(v), Math.abs(statistics.min[i] as number)));
  const tried = EXPONENTS.map((exponent) => {
    const s = factorsOf(largest, exponent);
    return { s, error: expectedError(statistics, matrices, s, bits) };
  });
  const [plain] = tried;
  const best = tried.reduce((a, b) => (b.error < a.error ? b : a));
  return plain && best.error < WORTHWHILE * plain.error ? best.s : null;
}
