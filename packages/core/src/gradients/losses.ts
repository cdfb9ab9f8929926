import { intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { inputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";

interface Targets {
  /** Class of every position, 0 where it is ignored: [batch, 1, ...]. */
  readonly labels: Value;
  /** dL/d(-log p) of every position: [batch, 1, ...]. */
  readonly rate: Value;
}

/** How much the loss grows with every position's -log p: its weight, its share of the mean, and dLoss. */
function targetsOf(c: RuleContext, dLoss: Value): Targets {
  const { g } = c;
  const [scores, raw] = [inputAt(c, 0), inputAt(c, 1)];
  const labels = g.cast(raw, "int64");
  const weights = c.inputs[2] ?? null;
  const ignored = c.node.attributes["ignore_index"] ? g.equal(labels, intAttribute(c.node, "ignore_index", 0)) : null;
  const safe = ignored ? g.where(ignored, g.constant("int64", 0), labels) : labels;
  let weight: Value | null = weights ? g.gather(weights, safe) : null;
  if (ignored) {
    const kept = g.cast(g.not(ignored), scores.type);
    weight = weight ? g.mul(weight, kept) : kept;
  }
  const reduction = stringAttribute(c.node, "reduction", "mean");
  const all = Array.from({ length: labels.shape.length }, (_, i) => i);
  weight ??= g.filled(labels.shape, 1, scores.type, labels);
  const share = reduction === "mean" ? g.div(dLoss, g.reduceSum(weight, all, false)) : dLoss;
  return { labels: g.unsqueeze(safe, [1]), rate: g.unsqueeze(g.mul(weight, share), [1]) };
}

/** Adds `updates` [batch, 1, ...] to `x` [batch, classes, ...] at each position's label. */
function addAtLabels(c: RuleContext, x: Value, labels: Value, updates: Value): Value {
  const { g } = c;
  if (g.opset >= 16) return g.scatterElements(x, labels, updates, 1, "add");
  const classes = x.shape[1] ?? 1;
  return g.add(x, g.mul(g.oneHot(g.squeeze(labels, [1]), classes, [0, 1], 1), updates));
}

/**
 * Losses as operators. Scores [batch, classes, ...], labels [batch, ...] integers, optional weights [classes];
 * w = weights[label], 0 where the label is ignore_index. Reductions none, sum, and mean = sum(w l) / sum(w).
 */
export const losses = {
  /**
   * loss = -w log p[label], log p = LogSoftmax(scores) over the classes, which is also the second output:
   *   dScores = rate * (p - onehot(label)) + dLogP - p * sum(dLogP), rate = dLoss * w (/ sum w). Saves log p.
   */
  SoftmaxCrossEntropyLoss: rule([12, 24], (c) => {
    const { g } = c;
    const p = g.exp(g.extraOutput(c.node, 1));
    const [dLoss, dLogP] = [c.dOutputs[0] ?? null, c.dOutputs[1] ?? null];
    let dX: Value | null = dLogP && g.sub(dLogP, g.mul(p, g.reduceSum(dLogP, [1])));
    if (dLoss) {
      const { labels, rate } = targetsOf(c, dLoss);
      const own = addAtLabels(c, g.mul(p, rate), labels, g.neg(rate));
      dX = dX ? g.add(dX, own) : own;
    }
    return [dX];
  }),
  /** loss = -w x[label] with x log-probabilities: dX = -rate at the labels. Saves the labels. */
  NegativeLogLikelihoodLoss: rule([12, 24], (c) => {
    const { g } = c;
    const x = inputAt(c, 0);
    const dLoss = c.dOutputs[0];
    if (!dLoss) return [null];
    const { labels, rate } = targetsOf(c, dLoss);
    return [addAtLabels(c, g.filled(x.shape, 0, x.type, x), labels, g.neg(rate))];
  }),
};
