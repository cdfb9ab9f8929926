import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { countOf, total } from "./sums.ts";

export interface MeanSquaredErrorInputs {
  readonly predictions: Value;
  /** The predictions' shape. */
  readonly labels: Value;
}

/**
 * Squared difference, mean over all elements; for regression and similarity scores.
 * @throws PeftError LOSS_SHAPE
 * @example
 * const { sum, weight } = meanSquaredError(g, { predictions, labels });
 */
export function meanSquaredError(g: Builder, { predictions, labels }: MeanSquaredErrorInputs): LossParts {
  if (predictions.shape.length !== labels.shape.length) {
    throw new PeftError(
      "LOSS_SHAPE",
      `Expected labels of the predictions' shape [${predictions.shape.join(", ")}], received [${labels.shape.join(", ")}].`,
      { hint: "Squeeze a last axis of size 1 first." },
    );
  }
  const difference = g.sub(predictions, labels);
  return { sum: total(g, g.mul(difference, difference)), weight: countOf(g, predictions) };
}
