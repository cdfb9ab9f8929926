import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { asMask, signOf } from "./masks.ts";
import { type Reduced, reducedOf } from "./reduced.ts";
import { type GradientRule, noGradient, type RuleContext, rule } from "./rule.ts";

interface ReductionParts {
  readonly c: RuleContext;
  readonly x: Value;
  /** Y and dY with the reduced axes kept (size 1), so that they broadcast against x. */
  readonly y: () => Value;
  readonly dY: Value;
  readonly axes: Reduced;
}

/** A rule for a reduction of its first input; the axes, attribute or input, have no gradient. */
const reduction = (backward: (parts: ReductionParts) => Value): GradientRule =>
  rule([1, 24], (c) => {
    const axes = reducedOf(c);
    return [backward({ c, x: inputAt(c, 0), y: () => axes.keep(outputAt(c)), dY: axes.keep(dOutput(c)), axes })];
  });

/** Largest or smallest: dX = dY * [X = Y] / m, shared evenly among m equal ones as in torch.amax. Saves X and Y. */
const extreme = reduction(({ c: { g }, x, y, dY, axes }) => {
  const winners = asMask(g, g.equal(x, y()), x);
  return g.mul(winners, g.div(dY, axes.sum(winners)));
});

/** Reductions over any axes. n is the number of values that one result comes from. */
export const reductions = {
  /** Y = sum X: dX = dY. Saves nothing. */
  ReduceSum: reduction(({ dY, axes }) => axes.spread(dY)),
  /** Y = sum X / n: dX = dY / n. Saves nothing. */
  ReduceMean: reduction(({ c: { g }, dY, axes }) => axes.spread(g.div(dY, axes.count()))),
  ReduceMax: extreme,
  ReduceMin: extreme,
  /**
   * Y = product of X: dX = dY * (product of the others), also where X holds zeros: with Z = [X = 0] and P the product of
   * the values that are not zero, the product of the others is P / (X + Z) where none of the others is zero. Saves X.
   */
  ReduceProd: reduction(({ c: { g }, x, dY, axes }) => {
    const zeros = asMask(g, g.equal(x, 0), x);
    const filled = g.add(x, zeros);
    const otherZeros = g.sub(axes.sum(zeros), zeros);
    const none = g.relu(g.sub(1, otherZeros));
    return g.mul(g.div(g.mul(dY, axes.again("ReduceProd", filled)), filled), none);
  }),
  /** Y = sum |X|: dX = dY * sign(X). Saves X. */
  ReduceL1: reduction(({ c: { g }, x, dY }) => g.mul(dY, signOf(g, x))),
  /** Y = sqrt(sum X^2): dX = X * (dY / Y), 0 where Y = 0 as in PyTorch. Saves X and Y. */
  ReduceL2: reduction(({ c: { g }, x, y, dY }) => {
    const norm = y();
    return g.mul(x, g.where(g.equal(norm, 0), g.constant(x.type, 0), g.div(dY, norm)));
  }),
  /** Y = sum X^2: dX = 2 X dY. Saves X. */
  ReduceSumSquare: reduction(({ c: { g }, x, dY }) => g.mul(x, g.mul(dY, 2))),
  /** Y = log sum X: dX = dY / sum X = dY * e^-Y. Saves Y. */
  ReduceLogSum: reduction(({ c: { g }, y, dY, axes }) => axes.spread(g.mul(dY, g.exp(g.neg(y()))))),
  /** Y = log sum e^X: dX = dY * e^(X - Y). Saves X and Y. */
  ReduceLogSumExp: reduction(({ c: { g }, x, y, dY }) => g.mul(dY, g.exp(g.sub(x, y())))),
  ArgMax: noGradient("its result is an index"),
  ArgMin: noGradient("its result is an index"),
};
