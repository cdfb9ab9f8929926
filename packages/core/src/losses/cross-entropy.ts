import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { total } from "./sums.ts";

export interface CrossEntropyInputs {
  /** [..., classes] */
  readonly logits: Value;
  /** [...], int64 or int32: the class of each row, or `ignoreIndex`. */
  readonly labels: Value;
}

export interface CrossEntropyOptions {
  /** Share of the target that is spread evenly over all classes; 0 to 1, default 0. Szegedy et al. 2015, arXiv 1512.00567. */
  readonly labelSmoothing?: number;
  /** One weight per class. */
  readonly classWeights?: readonly number[];
  /** Rows with this label do not count; default -100. */
  readonly ignoreIndex?: number;
}

/**
 * Cross-entropy of logits and class labels, equal to `torch.nn.CrossEntropyLoss` (mean = sum / weight):
 *   l = (1 - s) w[label] (-log p[label]) + s / classes * sum_c w[c] (-log p[c]), weight = sum of w[label].
 * With ignored rows only, both parts are 0.
 * @throws PeftError LOSS_SHAPE, LOSS_OPTION
 * @example
 * const g = createBuilder();
 * const logits = g.input("logits", "float32", ["batch", 3]);
 * const { sum, weight } = crossEntropy(g, { logits, labels: g.input("labels", "int64", ["batch"]) });
 * const [dLogits] = differentiate(g, [{ value: g.div(sum, weight) }], [logits]); // (softmax - one-hot) / batch
 */
export function crossEntropy(
  g: Builder,
  { logits, labels }: CrossEntropyInputs,
  options: CrossEntropyOptions = {},
): LossParts {
  const { labelSmoothing = 0, classWeights, ignoreIndex = -100 } = options;
  if (labels.shape.length !== logits.shape.length - 1) {
    throw new PeftError(
      "LOSS_SHAPE",
      `Expected labels with one axis less than the logits [${logits.shape.join(", ")}], received [${labels.shape.join(", ")}].`,
    );
  }
  const classes = at(logits.shape, -1);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new PeftError("LOSS_OPTION", `Expected labelSmoothing between 0 and 1, received ${labelSmoothing}.`);
  }
  if (classWeights && typeof classes === "number" && classWeights.length !== classes) {
    throw new PeftError("LOSS_OPTION", `Expected ${classes} classWeights, received ${classWeights.length}.`);
  }
  const target = g.cast(labels, "int64");
  const ignored = g.equal(target, ignoreIndex);
  const safe = g.where(ignored, g.constant("int64", 0), target);
  const kept = g.cast(g.not(ignored), logits.type);
  const weights = classWeights ? g.constant(logits.type, classWeights) : null;
  const weight = weights ? g.mul(kept, g.gather(weights, safe)) : kept;
  const logP = g.logSoftmax(logits);
  const picked = g.squeeze(g.gatherElements(logP, g.unsqueeze(safe, [labels.shape.length]), -1), [labels.shape.length]);
  const hard = g.mul(picked, weight);
  if (labelSmoothing === 0) return { sum: g.neg(total(g, hard)), weight: total(g, weight) };
  const spread = g.mul(g.reduceSum(weights ? g.mul(logP, weights) : logP, [logits.shape.length - 1], false), kept);
  const even = typeof classes === "number" ? g.mul(spread, 1 / classes) : g.div(spread, lastSize(g, logits));
  const mixed = g.add(g.mul(hard, 1 - labelSmoothing), g.mul(even, labelSmoothing));
  return { sum: g.neg(total(g, mixed)), weight: total(g, weight) };
}

const lastSize = (g: Builder, x: Value): Value => g.cast(g.shapeTensor(x.shape.slice(-1)), x.type);
