import type { Value } from "../onnx/ir.ts";
import { outputAt } from "./helpers.ts";
import { unaryRule } from "./unary.ts";

/** log(2 / sqrt(pi)): the factor of Erf's derivative, moved into the exponent. */
const LOG_2_OVER_SQRT_PI = Math.log(2 / Math.sqrt(Math.PI));

/** Exponential, logarithm, hyperbolic functions and Erf. Where Y gives the derivative, Y is saved instead of X. */
export const exponentials = {
  /** Y = e^X: dX = dY * Y. Saves Y. */
  Exp: unaryRule([6, 24], (c, dY) => c.g.mul(dY, outputAt(c))),
  /** Y = log X: dX = dY / X. Saves X. At 0 infinite, and NaN for dY = 0, as in PyTorch. */
  Log: unaryRule([6, 24], ({ g }, dY, x) => g.div(dY, x)),
  /** Y = sinh X: dX = dY * cosh X. Saves X. */
  Sinh: unaryRule([9, 24], ({ g }, dY, x) => g.mul(dY, g.op("Cosh", [x])[0] as Value)),
  /** Y = cosh X: dX = dY * sinh X. Saves X. */
  Cosh: unaryRule([9, 24], ({ g }, dY, x) => g.mul(dY, g.op("Sinh", [x])[0] as Value)),
  /** Y = tanh X: dX = dY * (1 - Y^2). Saves Y. */
  Tanh: unaryRule([6, 24], (c, dY) => {
    const y = outputAt(c);
    return c.g.mul(dY, c.g.sub(1, c.g.mul(y, y)));
  }),
  /** Y = asinh X: dX = dY / sqrt(X^2 + 1). Saves X. */
  Asinh: unaryRule([9, 24], ({ g }, dY, x) => g.div(dY, g.sqrt(g.add(g.mul(x, x), 1)))),
  /** Y = acosh X: dX = dY / sqrt(X^2 - 1). Saves X. */
  Acosh: unaryRule([9, 24], ({ g }, dY, x) => g.div(dY, g.sqrt(g.sub(g.mul(x, x), 1)))),
  /** Y = atanh X: dX = dY / (1 - X^2). Saves X. */
  Atanh: unaryRule([9, 24], ({ g }, dY, x) => g.div(dY, g.sub(1, g.mul(x, x)))),
  /** Y = 1 / (1 + e^-X): dX = dY * (Y - Y^2). Saves Y. */
  Sigmoid: unaryRule([6, 24], (c, dY) => {
    const y = outputAt(c);
    return c.g.mul(dY, c.g.sub(y, c.g.mul(y, y)));
  }),
  /** Y = erf X: dX = dY * 2 / sqrt(pi) * e^(-X^2). Saves X. */
  Erf: unaryRule([9, 24], ({ g }, dY, x) => g.mul(dY, g.exp(g.sub(LOG_2_OVER_SQRT_PI, g.mul(x, x))))),
};
