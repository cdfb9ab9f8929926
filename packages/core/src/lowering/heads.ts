import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

const widthOf = (x: Value): number => {
  const width = x.shape.at(-1);
  if (typeof width === "number") return width;
  throw new PeftError("SHAPE_INFERENCE", `The last axis of "${x.name}" has no known size.`);
};

/** A Reshape to constants; 0 copies an axis, -1 is what is left. */
export const reshapeTo = (g: Builder, x: Value, dims: readonly number[]): Value =>
  g.op("Reshape", [x, g.ints(dims)])[0] as Value;

/** [batch, tokens, heads * width] as [batch, heads, tokens, width]. */
export const splitHeads = (g: Builder, x: Value, heads: number): Value =>
  g.transpose(reshapeTo(g, x, [0, 0, heads, widthOf(x) / heads]), [0, 2, 1, 3]);

/** [batch, heads, tokens, width] as [batch, tokens, heads * width]. */
export function mergeHeads(g: Builder, x: Value): Value {
  const heads = x.shape[1];
  if (typeof heads !== "number") throw new PeftError("SHAPE_INFERENCE", `The heads of "${x.name}" are not known.`);
  return reshapeTo(g, g.transpose(x, [0, 2, 1, 3]), [0, 0, heads * widthOf(x)]);
}

/** Size of one axis as an int64 scalar; a constant where it is known. */
export const axisSize = (g: Builder, x: Value, axis: number): Value =>
  g.gather(g.shapeOf(x), g.constant("int64", axis));

/** start, start + 1, ..., end - 1 as int64 [end - start]. */
export const range = (g: Builder, start: Value, end: Value): Value =>
  g.op("Range", [start, end, g.constant("int64", 1)])[0] as Value;

/** 0, 1, ... along an axis: int64 [size]. */
export const positionsOf = (g: Builder, x: Value, axis: number): Value =>
  range(g, g.constant("int64", 0), axisSize(g, x, axis));
