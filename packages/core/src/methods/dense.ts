import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { type Matrix, matrix, transpose } from "../linalg/matrix.ts";
import type { AdapterTensor, ByRole, FrozenSite, OperandChange } from "./method.ts";

/** The value of a role. @throws PeftError PARAMETER when it is missing */
export function roleOf<T>(values: ByRole<T>, role: string): T {
  const value = values[role];
  if (value === undefined) throw new PeftError("PARAMETER", `The adapter has no tensor "${role}" at this module.`);
  return value;
}

/** A tensor as a matrix: the last axis is the columns, all others together the rows. */
export function toMatrix({ dims, data }: AdapterTensor): Matrix {
  const columns = dims.at(-1) ?? 1;
  return matrix(columns === 0 ? 0 : data.length / columns, columns, data);
}

/** The matrices [rows, columns] that a tensor [n, rows, columns] consists of. */
export function toMatrices({ dims, data }: AdapterTensor): Matrix[] {
  const [rows, columns] = [dims.at(-2) ?? 1, dims.at(-1) ?? 1];
  const size = rows * columns;
  return Array.from({ length: data.length / size }, (_, i) =>
    matrix(rows, columns, data.slice(i * size, (i + 1) * size)),
  );
}

/** The module stores the transpose of its matrix: a linear one of GPT-2, and an embedding, which is a linear module on one-hot rows. */
const isStoredTransposed = ({ kind, fanInFanOut }: SiteShape): boolean =>
  kind === "embedding" || (fanInFanOut ?? false);

/**
 * The frozen weight as a matrix: [out, in] of a linear site, [out, in / groups * places] of a convolution, [width, rows] of an
 * embedding, also where the module stores the transpose.
 */
export function frozenMatrix(site: SiteShape, frozen: FrozenSite): Matrix {
  const [rows = 0] = site.weightShape;
  const values = frozen.weight();
  const stored = matrix(rows, rows === 0 ? 0 : values.length / rows, values);
  return isStoredTransposed(site) ? transpose(stored) : stored;
}

/** A change of that matrix, in the layout of the module. */
export const addToWeight = (site: SiteShape, change: Matrix): OperandChange => ({
  add: Float32Array.from((isStoredTransposed(site) ? transpose(change) : change).data),
});
