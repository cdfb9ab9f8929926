import { PeftError } from "../errors.ts";
import type { AdapterTensor } from "./method.ts";

/** Rows and columns of a matrix. @throws PeftError SHAPE_MISMATCH */
export function matrixDims({ dims }: AdapterTensor): [rows: number, columns: number] {
  const [rows, columns] = dims;
  if (rows === undefined || columns === undefined || dims.length !== 2) {
    throw new PeftError("SHAPE_MISMATCH", `Expected a matrix, received shape [${dims.join(", ")}].`);
  }
  return [rows, columns];
}

/**
 * scale · B·A for B [out, r] and A [r, in], as [out, in] or, transposed, as [in, out]. Costs out * r * in
 * multiplications; sums are in double precision.
 */
export function scaledProduct(b: AdapterTensor, a: AdapterTensor, scale: number, transposed: boolean): Float32Array {
  const [out, r] = matrixDims(b);
  const [rank, width] = matrixDims(a);
  if (r !== rank) throw new PeftError("SHAPE_MISMATCH", `B has rank ${r} and A has rank ${rank}.`);
  const result = new Float32Array(out * width);
  const row = new Float64Array(width);
  for (let o = 0; o < out; o++) {
    row.fill(0);
    for (let k = 0; k < r; k++) {
      const factor = scale * (b.data[o * r + k] as number);
      for (let i = 0, from = k * width; i < width; i++, from++) {
        row[i] = (row[i] as number) + factor * (a.data[from] as number);
      }
    }
    if (transposed) for (let i = 0; i < width; i++) result[i * out + o] = row[i] as number;
    else result.set(row, o * width);
  }
  return result;
}
