import { PeftError } from "../errors.ts";
import type { Matrix } from "./matrix.ts";

/** Largest |a - b| over all entries. @throws PeftError SHAPE_MISMATCH */
export function largestDifference(a: Matrix, b: Matrix): number {
  if (a.rows !== b.rows || a.columns !== b.columns) {
    throw new PeftError("SHAPE_MISMATCH", `Shapes [${a.rows}, ${a.columns}] and [${b.rows}, ${b.columns}] differ.`);
  }
  let largest = 0;
  for (let i = 0; i < a.data.length; i++) {
    largest = Math.max(largest, Math.abs((a.data[i] as number) - (b.data[i] as number)));
  }
  return largest;
}

/** Square root of the sum of squares; scaled, so that it neither overflows nor underflows. */
export function frobeniusNorm({ data }: { readonly data: Float64Array }): number {
  let largest = 0;
  for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i] as number));
  if (largest === 0 || !Number.isFinite(largest)) return largest;
  let sum = 0;
  for (let i = 0; i < data.length; i++) {
    const x = (data[i] as number) / largest;
    sum += x * x;
  }
  return largest * Math.sqrt(sum);
}

/** @throws PeftError SHAPE_MISMATCH when the matrix is not square. */
export function checkSquare({ rows, columns }: Matrix, what: string): void {
  if (rows === columns) return;
  throw new PeftError("SHAPE_MISMATCH", `expected a square matrix for ${what}, received [${rows}, ${columns}].`);
}

/** @throws PeftError MATRIX_NOT_FINITE when an entry is NaN or infinite. */
export function checkFinite({ data }: Matrix, what: string): void {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) {
      throw new PeftError("MATRIX_NOT_FINITE", `expected finite entries for ${what}, received ${data[i]} at ${i}.`);
    }
  }
}
