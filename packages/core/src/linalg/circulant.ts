import { PeftError } from "../errors.ts";
import { ifft, multiplyComplex, realFft } from "./fft.ts";
import { type Matrix, matrixFrom } from "./matrix.ts";

/**
 * Circular convolution z_k = sum_j x_j y_{(k - j) mod n}, of any length, by Fourier transforms: n log n operations.
 * @throws PeftError SHAPE_MISMATCH
 * @example
 * circularConvolution([1, 2, 3], [0, 1, 0]); // Float64Array [3, 1, 2]
 */
export function circularConvolution(x: ArrayLike<number>, y: ArrayLike<number>): Float64Array {
  if (x.length !== y.length) {
    throw new PeftError("SHAPE_MISMATCH", `expected lists of one length, received ${x.length} and ${y.length}.`);
  }
  return ifft(multiplyComplex(realFft(x), realFft(y))).re;
}

/** The circulant matrix C [n, n] with first column c, so that C x is the {@link circularConvolution} of c and x. */
export const circulant = (c: ArrayLike<number>): Matrix =>
  matrixFrom(c.length, c.length, (i, j) => c[(i - j + c.length) % c.length] as number);
