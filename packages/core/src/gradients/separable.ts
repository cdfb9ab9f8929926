import type { Builder } from "../graph/builder.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";

/** The identity matrix [n, n], made in the graph: n may be known at run time only. */
export function identityMatrix(g: Builder, size: Dim, type: Value["type"]): Value {
  return g.op("EyeLike", [g.filled([size, size], 0, type)])[0] as Value;
}

/**
 * dY [..., o, ...] times a matrix [n, o] along `axis`: dX [..., n, ...]. An operator that is linear along every axis by
 * itself (resizing, averaging) is Y = X·M for every axis in turn, and M is what it makes of the identity matrix: its own
 * kernel decides about borders, rounding and padding. Costs 2 n multiplications for every entry of dY.
 */
export function alongAxis(g: Builder, dY: Value, matrix: Value, axis: number): Value {
  const last = dY.shape.length - 1;
  if (axis === last - 1) return g.matMul(matrix, dY);
  const exchanged = upTo(last + 1).map((i) => (i === axis ? last : i === last ? axis : i));
  const product = g.fusedMatMul(g.transpose(dY, exchanged), matrix, { transB: true });
  return g.transpose(product, exchanged);
}
