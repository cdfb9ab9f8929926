/**
 * The 16 values of the 4-bit types that are not evenly spaced, as ONNX Runtime's MatMulBnb4 has them (from bitsandbytes,
 * scaled to a largest magnitude of 1). A weight is `book[code] * absmax` of its block.
 */
export const codeBooks = {
  /** Quantiles of a normal distribution. Dettmers et al. 2023, arXiv 2305.14314, appendix E. */
  nf4: Float32Array.of(
    ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
    ...[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0],
    ...[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
    ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
  ),
  /** Sign, two exponent bits, one mantissa bit. */
  fp4: Float32Array.of(
    ...[0, 0.005208333333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25],
    ...[0, -0.005208333333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25],
  ),
} as const;

export type CodeBook = keyof typeof codeBooks;
