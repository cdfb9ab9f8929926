import type { TensorData } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";

/** A matrix [rows, columns] in 8-bit integers with a scale for each column: W[i, j] = weight[i, j] * scales[j]. */
export interface Int8Matrix {
  readonly weight: TensorData;
  readonly scales: TensorData;
}

/** Largest code that a weight may have. 64 leaves room for sums of two products in 16 bits: 2 * 255 * 64 = 32,640. */
export const largestCode = { 7: 64, 8: 127 } as const;
export type WeightBits = keyof typeof largestCode;

/**
 * Rounds a matrix to symmetric integers, each column by its own largest magnitude. Two passes over the matrix, about 3 ns a
 * value; columns of zeros get scale 1.
 * @param weight row-major [rows, columns].
 * @param factors one number per row that it is multiplied by first; default 1.
 * @example
 * quantizeColumns(Float32Array.of(1, 0.5, -2, 0.25), 2, 2, 8).scales; // [2 / 127, 0.5 / 127]
 */
export function quantizeColumns(
  weight: Float32Array,
  rows: number,
  columns: number,
  bits: WeightBits,
  factors: Float32Array | null = null,
): Int8Matrix {
  const limit = largestCode[bits];
  const largest = new Float32Array(columns);
  for (let i = 0; i < rows; i++) {
    const factor = factors ? (factors[i] as number) : 1;
    for (let j = 0, at = i * columns; j < columns; j++, at++) {
      const size = Math.abs((weight[at] as number) * factor);
      if (size > (largest[j] as number)) largest[j] = size;
    }
  }
  const [scales, inverses] = [new Float32Array(columns), new Float32Array(columns)];
  for (let j = 0; j < columns; j++) {
    const size = largest[j] as number;
    scales[j] = size === 0 ? 1 : size / limit;
    inverses[j] = size === 0 ? 0 : limit / size;
  }
  const codes = new Int8Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const factor = factors ? (factors[i] as number) : 1;
    for (let j = 0, at = i * columns; j < columns; j++, at++) {
      codes[at] = Math.round((weight[at] as number) * factor * (inverses[j] as number));
    }
  }
  return {
    weight: tensorFrom("int8", [rows, columns], codes),
    scales: tensorFrom("float32", [columns], scales),
  };
}
