import type { Builder } from "../graph/builder.ts";
import { type Matrix, matrixFrom, multiply } from "../linalg/matrix.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { toMatrix } from "./dense.ts";
import type { AdapterTensor } from "./method.ts";

/** Sizes of a kernel's places in a core: peft writes those of one axis as two. */
export const corePlaces = (weightShape: readonly number[]): number[] =>
  weightShape.length === 3 ? [...weightShape.slice(2), 1] : weightShape.slice(2);

/**
 * A kernel from a core T [r, r, p, q] for its places and a factor for its channels on either side, a [r, rows] and b [r, columns]: the sum over
 * i and j of a[i] b[j] T[i, j], as a matrix [rows, columns * p * q]. Proposition 3 of FedPara, arXiv 2108.06098.
 */
export function tuckerValue(g: Builder, core: Value, a: Value, b: Value): Value {
  const places = Number(at(core.shape, 2)) * Number(at(core.shape, 3));
  const right = g.matMul(g.transpose(core, [0, 2, 3, 1]), b); // [r, p, q, columns]
  const flat = g.reshape(g.transpose(right, [0, 3, 1, 2]), [at(core.shape, 0), Number(at(b.shape, 1)) * places]);
  return g.fusedMatMul(a, flat, { transA: true });
}

/** {@link tuckerValue} of tensors. */
export function tuckerMatrix(core: AdapterTensor, a: AdapterTensor, b: AdapterTensor): Matrix {
  const [r = 0, columns = 0] = b.dims;
  const places = r === 0 ? 1 : core.data.length / (r * r);
  const byPlace = matrixFrom(r * places, r, (row, j) => {
    return core.data[(Math.floor(row / places) * r + j) * places + (row % places)] as number;
  });
  const right = multiply(byPlace, toMatrix(b)); // [r * places, columns]
  const flat = matrixFrom(r, columns * places, (i, column) => {
    return right.data[(i * places + (column % places)) * columns + Math.floor(column / places)] as number;
  });
  return multiply(toMatrix(a), flat, { transA: true });
}
