import type { Value } from "../onnx/ir.ts";

/**
 * What a loss adds to a graph. The trainer differentiates `sum`, adds sums, weights and gradients over the micro-batches
 * of a batch, and divides by the total weight once: the mean over the whole batch, however it is cut.
 */
export interface LossParts {
  /** Sum of the (weighted) losses of all items: a scalar. */
  readonly sum: Value;
  /** Sum of their weights: a scalar. */
  readonly weight: Value;
  /** The loss compares samples with each other, so a batch must be one run. */
  readonly couplesSamples?: true;
}
