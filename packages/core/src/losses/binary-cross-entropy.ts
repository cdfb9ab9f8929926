import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { countOf, total } from "./sums.ts";

export interface BinaryCrossEntropyInputs {
  /** [..., labels], one independent decision per element. */
  readonly logits: Value;
  /** The same shape, float: 1 yes, 0 no, anything between for soft targets. */
  readonly labels: Value;
}

export interface BinaryCrossEntropyOptions {
  /** Weight of the positive answer of each label (last axis), or one for all. */
  readonly posWeight?: number | readonly number[];
}

/**
 * Binary cross-entropy on logits for multi-label tasks, equal to `torch.nn.BCEWithLogitsLoss` (mean over all elements):
 *   l = (1 - y) x + (1 + (w - 1) y) softplus(-x), finite for any x.
 * @throws PeftError LOSS_SHAPE, LOSS_OPTION
 * @example
 * const { sum, weight } = binaryCrossEntropy(g, { logits, labels }, { posWeight: [3, 1] });
 */
export function binaryCrossEntropy(
  g: Builder,
  { logits, labels }: BinaryCrossEntropyInputs,
  { posWeight }: BinaryCrossEntropyOptions = {},
): LossParts {
  if (logits.shape.length !== labels.shape.length) {
    throw new PeftError(
      "LOSS_SHAPE",
      `Expected labels of the logits' shape [${logits.shape.join(", ")}], received [${labels.shape.join(", ")}].`,
    );
  }
  const count = at(logits.shape, -1);
  if (Array.isArray(posWeight) && typeof count === "number" && posWeight.length !== count) {
    throw new PeftError("LOSS_OPTION", `Expected ${count} posWeight values, received ${posWeight.length}.`);
  }
  const y = g.cast(labels, logits.type);
  let tail = g.op("Softplus", [g.neg(logits)])[0] as Value;
  if (posWeight !== undefined) {
    const surplus = typeof posWeight === "number" ? posWeight - 1 : posWeight.map((w) => w - 1);
    tail = g.mul(tail, g.add(g.mul(y, g.constant(logits.type, surplus)), 1));
  }
  return { sum: total(g, g.add(g.mul(g.sub(1, y), logits), tail)), weight: countOf(g, logits) };
}
