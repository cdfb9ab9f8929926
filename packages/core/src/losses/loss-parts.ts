import type { Builder } from "../graph/builder.ts";
import { sizeOf } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";

/**
 * A loss as numerator and denominator, both scalars: the mean over a whole batch is the sum of all `sum` divided by the
 * sum of all `weight`, however the batch was cut into micro-batches.
 */
export interface LossParts {
  /** Sum of the weighted losses of all samples (or tokens, or elements). Differentiate this one. */
  readonly sum: Value;
  /** What the accumulated sums and gradients are divided by. Carries no gradient. */
  readonly weight: Value;
  /** Samples of a batch depend on each other (in-batch negatives): cutting the batch changes the loss. */
  readonly couplesSamples?: true;
}

/** Sum over all axes, a scalar. */
export const total = (g: Builder, x: Value): Value =>
  x.shape.length === 0 ? x : g.reduceSum(x, [...x.shape.keys()], false);

/** How many elements `x` has, as a float32 scalar. */
export const countOf = (g: Builder, x: Value): Value =>
  g.cast(g.squeeze(g.shapeTensor([sizeOf(x.shape)]), [0]), "float32");
