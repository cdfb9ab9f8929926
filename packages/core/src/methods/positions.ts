import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { type Matrix, matrix } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";

/** Places of a [rows, width] matrix, counted row by row, as a tensor [2, n]: row indices first, then column indices. */
export const positionsFrom = (places: Int32Array, width: number): Float32Array =>
  Float32Array.from([...places.map((p) => Math.floor(p / width)), ...places.map((p) => p % width)]);

/** Such a tensor as indices [n] into the matrix laid out as one row. */
export function flatPositions(g: Builder, positions: Value, width: number): Value {
  const [rows, columns] = g.split(g.cast(positions, "int64"), [1, 1], 0);
  if (!rows || !columns) throw new PeftError("PARAMETER", "Positions are row indices and column indices.");
  return g.reshape(g.add(g.mul(rows, g.ints([width])), columns), ["?count"]);
}

/**
 * A matrix [out, in] that is zero but for values at some positions.
 * @param what the values are called in the error
 * @throws PeftError PARAMETER for a position outside
 */
export function scatterPositions(
  { name, inFeatures, outFeatures }: SiteShape,
  values: Float32Array,
  positions: Float32Array,
  what: string,
): Matrix {
  const result = matrix(outFeatures, inFeatures);
  values.forEach((value, i) => {
    const [row, column] = [positions[i] as number, positions[values.length + i] as number];
    if (!(row >= 0 && row < outFeatures && column >= 0 && column < inFeatures)) {
      throw new PeftError(
        "PARAMETER",
        `${what} (${row}, ${column}) lies outside "${name}" [${outFeatures}, ${inFeatures}].`,
      );
    }
    result.data[row * inFeatures + column] = value;
  });
  return result;
}
