import { intAttribute } from "../onnx/infer/context.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, outputAt } from "./helpers.ts";
import { pickedClasses } from "./picked-classes.ts";
import { weightedGradientSum } from "./row-weights.ts";
import { noGradient, type RuleContext, rule } from "./rule.ts";

/**
 * Axes over which the values add up to 1: one axis from opset 13 (default the last); before, `axis` (default 1) and all
 * after it, because the operator saw its input as a matrix.
 */
function normalizedAxes(c: RuleContext): number[] {
  const rank = outputAt(c).shape.length;
  if (c.g.opset >= 13) return [positiveAxis(intAttribute(c.node, "axis", -1), rank)];
  const axis = positiveAxis(intAttribute(c.node, "axis", 1), rank);
  return upTo(rank).slice(axis);
}

/** Softmax and its relatives. Sums run over the normalised axes and keep them. */
export const softmax = {
  /** Y = exp(X) / sum exp(X): dX = Y * (dY - sum(Y * dY)), the sum of an attention's weights by {@link weightedGradientSum}. Saves Y. */
  Softmax: rule([1, 24], (c) => {
    const { g } = c;
    const [y, dY, axes] = [outputAt(c), dOutput(c), normalizedAxes(c)];
    const isLast = axes.length === 1 && axes[0] === y.shape.length - 1;
    const sum = (isLast ? weightedGradientSum(c, y) : null) ?? g.reduceSum(g.mul(y, dY), axes);
    return [g.mul(y, g.sub(dY, sum))];
  }),
  /**
   * Y = X - log sum exp(X): dX = dY - exp(Y) * sum(dY). Saves Y. Where Y is used at picked classes alone ({@link pickedClasses}) their
   * gradients are added to the second term in its place: of as many numbers as a vocabulary has, dY is neither made nor summed.
   */
  LogSoftmax: rule([1, 24], (c) => {
    const { g } = c;
    const [y, dY, axes] = [outputAt(c), dOutput(c), normalizedAxes(c)];
    const [axis = 0] = axes;
    const picked = axes.length === 1 ? pickedClasses(c, y, axis) : null;
    if (!picked) return [g.sub(dY, g.mul(g.exp(y), g.reduceSum(dY, axes)))];
    const { indices, gradient } = picked;
    const others = g.mul(g.exp(y), g.neg(g.reduceSum(gradient, axes)));
    return [g.scatterElements(others, indices, gradient, axis, "add")];
  }),
  Hardmax: noGradient("constant almost everywhere"),
};
