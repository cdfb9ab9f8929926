import type { Builder } from "../graph/builder.ts";
import { floatAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { asMask, positiveMask } from "./masks.ts";
import { rule } from "./rule.ts";
import { unaryRule } from "./unary.ts";

/** high where x > 0, low elsewhere. */
function step(g: Builder, x: Value, low: number, high: number): Value {
  const mask = positiveMask(g, x);
  const scaled = high - low === 1 ? mask : g.mul(mask, high - low);
  return low === 0 ? scaled : g.add(scaled, low);
}

/** Derivative of ELU: 1 where x > 0, alpha * e^x elsewhere; e^min(x, 0) is 1 on the positive side by itself. */
function eluSlope(g: Builder, x: Value, alpha: number): Value {
  const decay = g.exp(g.min(x, 0));
  return alpha === 1 ? decay : g.add(g.mul(decay, alpha), step(g, x, 0, 1 - alpha));
}

/** 1 where y is strictly between 0 and 1. */
const between0And1 = (g: Builder, y: Value): Value => positiveMask(g, g.sub(y, g.mul(y, y)));

/** Piece-wise activations. At a kink they take PyTorch's side. */
export const rectifiers = {
  /** Y = max(X, 0): dX = dY where Y > 0. Saves Y, so X can go. */
  Relu: unaryRule([6, 24], (c, dY) => c.g.mul(dY, positiveMask(c.g, outputAt(c)))),
  /** Y = X where X > 0, else alpha X: dX = dY * (1 or alpha). Saves X. */
  LeakyRelu: unaryRule([6, 24], ({ g, node }, dY, x) => g.mul(dY, step(g, x, floatAttribute(node, "alpha", 0.01), 1))),
  /**
   * Y = X where X > 0, else slope * X; slope broadcasts to X. dX = dY * (slope + (1 - slope) [X > 0]),
   * dSlope = dY * min(X, 0). Saves X, and slope for dX.
   */
  PRelu: rule([7, 24], (c) => {
    const { g } = c;
    const [x, slope] = [inputAt(c, 0), inputAt(c, 1)];
    const factor = (): Value => g.add(g.mul(positiveMask(g, x), g.sub(1, slope)), slope);
    return [c.needs[0] ? g.mul(dOutput(c), factor()) : null, c.needs[1] ? g.mul(dOutput(c), g.min(x, 0)) : null];
  }),
  /** Y = X where X > alpha, else 0: dX = dY where X > alpha. Saves X. */
  ThresholdedRelu: unaryRule([10, 24], ({ g, node }, dY, x) =>
    g.mul(dY, asMask(g, g.greater(x, floatAttribute(node, "alpha", 1)), x)),
  ),
  /** Y = X where X > 0, else alpha (e^X - 1): dX = dY * (1 or alpha e^X). Saves X. */
  Elu: unaryRule([6, 24], ({ g, node }, dY, x) => g.mul(dY, eluSlope(g, x, floatAttribute(node, "alpha", 1)))),
  /** Y = max(X, 0) + min(alpha (e^(X / alpha) - 1), 0): dX = dY * e^(min(X, 0) / alpha). Saves X. */
  Celu: unaryRule([12, 24], ({ g, node }, dY, x) => {
    const alpha = floatAttribute(node, "alpha", 1);
    const negative = g.min(x, 0);
    return g.mul(dY, g.exp(alpha === 1 ? negative : g.mul(negative, 1 / alpha)));
  }),
  /** Y = gamma * ELU(X; alpha): dX = dY * gamma * (1 or alpha e^X). Saves X. */
  Selu: unaryRule([6, 24], ({ g, node }, dY, x) => {
    const slope = eluSlope(g, x, floatAttribute(node, "alpha", 1.6732632));
    return g.mul(g.mul(dY, floatAttribute(node, "gamma", 1.0507009)), slope);
  }),
  /** Y = clamp(alpha X + beta, 0, 1): dX = alpha dY where 0 < Y < 1. Saves Y. */
  HardSigmoid: unaryRule([6, 24], (c, dY) =>
    c.g.mul(c.g.mul(dY, floatAttribute(c.node, "alpha", 0.2)), between0And1(c.g, outputAt(c))),
  ),
  /** Y = X * h, h = clamp(X / 6 + 1/2, 0, 1): dX = dY * (h + X / 6 [0 < h < 1]). Saves X. */
  HardSwish: unaryRule([14, 24], ({ g }, dY, x) => {
    const sixth = g.mul(x, 1 / 6);
    const h = x.type === "float32" ? g.hardSigmoid(x, 1 / 6, 0.5) : g.min(g.max(g.add(sixth, 0.5), 0), 1);
    return g.mul(dY, g.add(h, g.mul(sixth, between0And1(g, h))));
  }),
};
