import type { Builder } from "../graph/builder.ts";
import { sizeOf } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";

/** Sum over all axes, a scalar. */
export const total = (g: Builder, x: Value): Value =>
  x.shape.length === 0 ? x : g.reduceSum(x, [...x.shape.keys()], false);

/** How many elements `x` has, as a float32 scalar. */
export const countOf = (g: Builder, x: Value): Value =>
  g.cast(g.squeeze(g.shapeTensor([sizeOf(x.shape)]), [0]), "float32");
