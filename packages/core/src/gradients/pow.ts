import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { elementCount, toNumbers } from "../onnx/tensor.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";

/** The one number a constant holds; null for run-time values and longer constants. */
function constantNumber(g: Builder, value: Value): number | null {
  const tensor = g.tensorOf(value.name);
  return tensor && elementCount(tensor.dims) === 1 ? (toNumbers(tensor)[0] ?? null) : null;
}

/** dY * n * X^(n-1), written so that X = 0 is safe wherever the derivative exists. Null for n = 0. */
function constantPower(c: RuleContext, n: number): Value | null {
  const { g } = c;
  const [x, y, dY] = [inputAt(c, 0), outputAt(c), dOutput(c)];
  if (n === 0) return null;
  if (n === 1) return dY;
  if (n === 2) return g.mul(g.mul(dY, 2), x);
  if (n === 3) return g.mul(g.mul(dY, 3), g.mul(x, x));
  if (n === 0.5) return g.div(g.mul(dY, 0.5), y);
  if (n === -1) return g.mul(g.mul(g.neg(dY), y), y);
  return g.mul(g.mul(dY, n), g.pow(x, n - 1));
}

/** dY * E * X^(E-1); 0 where E = 0, also at X = 0 where the formula is 0 * infinity. */
function variablePower({ g }: RuleContext, dY: Value, x: Value, exponent: Value): Value {
  const e = g.cast(exponent, x.type);
  const slope = g.mul(e, g.pow(x, g.sub(e, 1)));
  return g.mul(dY, g.where(g.equal(e, 0), g.constant(x.type, 0), slope));
}

/** dY * Y * log X; 0 where X = 0 and E >= 0, where the formula is 0 * -infinity. NaN for X < 0. */
function exponentGradient({ g }: RuleContext, dY: Value, x: Value, exponent: Value, y: Value): Value {
  const flat = g.and(g.equal(x, 0), g.not(g.less(exponent, 0)));
  return g.mul(dY, g.where(flat, g.constant(y.type, 0), g.mul(y, g.log(x))));
}

/** Powers. */
export const pow = {
  /**
   * Y = X^E, broadcast: dX = dY * E * X^(E-1), dE = dY * Y * log X. Saves X and E, and Y for dE. A constant E takes its
   * shortest form (2: 2 X, 0.5: 1 / (2 Y), ...). The edge cases follow PyTorch: see the functions above.
   */
  Pow: rule([7, 24], (c) => {
    const [x, exponent] = [inputAt(c, 0), inputAt(c, 1)];
    const constant = constantNumber(c.g, exponent);
    const dX = (): Value | null =>
      constant === null ? variablePower(c, dOutput(c), x, exponent) : constantPower(c, constant);
    return [c.needs[0] ? dX() : null, c.needs[1] ? exponentGradient(c, dOutput(c), x, exponent, outputAt(c)) : null];
  }),
};
