import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { signOf } from "./masks.ts";
import { rule } from "./rule.ts";
import { unaryRule } from "./unary.ts";

/** Sums, products, quotients and roots. Shapes broadcast; the engine undoes it. */
export const arithmetic = {
  /** Y = A + B: dA = dY, dB = dY. Saves nothing. */
  Add: rule([7, 24], (c) => [dOutput(c), dOutput(c)]),
  /** Y = A - B: dA = dY, dB = -dY. Saves nothing. */
  Sub: rule([7, 24], (c) => [dOutput(c), c.needs[1] ? c.g.neg(dOutput(c)) : null]),
  /** Y = A * B: dA = dY * B, dB = dY * A. Each needs the other factor only. */
  Mul: rule([7, 24], (c) => {
    const times = (other: Value): Value => c.g.mul(dOutput(c), other);
    return [c.needs[0] ? times(inputAt(c, 1)) : null, c.needs[1] ? times(inputAt(c, 0)) : null];
  }),
  /** Y = A / B: dA = dY / B, dB = -(dY / B) * Y. Saves B, and Y for dB. At B = 0 infinite or NaN, as in PyTorch. */
  Div: rule([7, 24], (c) => {
    const { g } = c;
    const dA = g.div(dOutput(c), inputAt(c, 1));
    return [c.needs[0] ? dA : null, c.needs[1] ? g.neg(g.mul(dA, outputAt(c))) : null];
  }),
  /**
   * Y = A mod B = A - q * B with a whole number q, constant almost everywhere: dA = dY, dB = -dY * q, q = (A - Y) / B.
   * Saves A, B and Y for dB. Integers, the usual operands, have no gradient anyway.
   */
  Mod: rule([10, 24], (c) => {
    const { g } = c;
    if (!c.needs[1]) return [dOutput(c), null];
    const [a, b] = [inputAt(c, 0), inputAt(c, 1)];
    const quotient = g.op("Round", [g.div(g.sub(a, outputAt(c)), b)])[0] as Value;
    return [c.needs[0] ? dOutput(c) : null, g.neg(g.mul(dOutput(c), quotient))];
  }),
  /** Y = X1 + ... + Xn: dXi = dY. Saves nothing. */
  Sum: rule([8, 24], (c) => c.inputs.map(() => dOutput(c))),
  /** Y = (X1 + ... + Xn) / n: dXi = dY / n. Saves nothing. */
  Mean: rule([8, 24], (c) => {
    const share = c.g.mul(dOutput(c), 1 / c.inputs.length);
    return c.inputs.map(() => share);
  }),
  /** Y = -X: dX = -dY. */
  Neg: unaryRule([6, 24], ({ g }, dY) => g.neg(dY)),
  /** Y = |X|: dX = dY * sign(X), 0 at 0. Saves X. */
  Abs: unaryRule([6, 24], ({ g }, dY, x) => g.mul(dY, signOf(g, x))),
  /** Y = sqrt(X): dX = dY / (2 Y). Saves Y. At 0: infinite, and NaN for dY = 0, as in PyTorch. */
  Sqrt: unaryRule([6, 24], (c, dY) => c.g.div(c.g.mul(dY, 0.5), outputAt(c))),
  /** Y = 1 / X: dX = -dY * Y^2. Saves Y. */
  Reciprocal: unaryRule([6, 24], (c, dY) => {
    const y = outputAt(c);
    return c.g.neg(c.g.mul(c.g.mul(dY, y), y));
  }),
};
