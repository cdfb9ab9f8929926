import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

const lastAxis = (x: Value): readonly number[] => [x.shape.length - 1];

/**
 * Rows of length 1: x / max(|x|, 1e-12) over the last axis.
 * @example
 * const scores = g.gemm(normalizeRows(g, images), normalizeRows(g, texts), null, { transB: true }); // cosines [images, texts]
 */
export const normalizeRows = (g: Builder, x: Value): Value =>
  g.div(x, g.sqrt(g.max(g.reduceSum(g.mul(x, x), lastAxis(x)), 1e-24)));

/** Cosine of the angle between rows: [..., size] and [..., size] to [...]. */
export const cosineSimilarity = (g: Builder, a: Value, b: Value): Value =>
  g.reduceSum(g.mul(normalizeRows(g, a), normalizeRows(g, b)), lastAxis(a), false);

/** Euclidean distance of rows: [..., size] and [..., size] to [...]; 1e-6 is added to each difference, as PyTorch does, so that equal rows have a gradient. */
export function euclideanDistance(g: Builder, a: Value, b: Value): Value {
  const difference = g.add(g.sub(a, b), 1e-6);
  return g.sqrt(g.reduceSum(g.mul(difference, difference), lastAxis(a), false));
}
