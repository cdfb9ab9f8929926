import { type Matrix, matrix } from "./matrix.ts";
import { highPass, lowPass, type WaveletName } from "./wavelet-tables.ts";

/** Coefficients of one level of synthesis that gives at least `size` samples: an even number. */
export function coefficientCount(size: number, name: WaveletName): number {
  const padded = size + lowPass(name).length - 2;
  return padded + (padded % 2);
}

/**
 * One level of wavelet synthesis as a matrix [size, coefficients]: columns of the low-pass half, then of the high-pass half. Sample t of
 * column j is f[t - 2 j + n - 2] for a filter of n taps: the full convolution without the n - 2 samples at either end that lack some of
 * their terms. Where every tap is inside, columns are orthonormal.
 */
export function synthesisMatrix(size: number, name: WaveletName): Matrix {
  const count = coefficientCount(size, name);
  const result = matrix(size, count);
  [lowPass(name), highPass(name)].forEach((filter, band) => {
    for (let j = 0; j < count / 2; j++)
      filter.forEach((tap, k) => {
        const t = 2 * j + k - (filter.length - 2);
        if (t >= 0 && t < size) result.data[t * count + (band * count) / 2 + j] = tap;
      });
  });
  return result;
}
