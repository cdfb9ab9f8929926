import { outputAt } from "./helpers.ts";
import { unaryRule } from "./unary.ts";

/** Trigonometric functions and their inverses. */
export const trigonometry = {
  /** Y = sin X: dX = dY * cos X. Saves X. */
  Sin: unaryRule([7, 24], ({ g }, dY, x) => g.mul(dY, g.cos(x))),
  /** Y = cos X: dX = -dY * sin X. Saves X. */
  Cos: unaryRule([7, 24], ({ g }, dY, x) => g.neg(g.mul(dY, g.sin(x)))),
  /** Y = tan X: dX = dY * (1 + Y^2). Saves Y. */
  Tan: unaryRule([7, 24], (c, dY) => {
    const y = outputAt(c);
    return c.g.mul(dY, c.g.add(c.g.mul(y, y), 1));
  }),
  /** Y = asin X: dX = dY / sqrt(1 - X^2). Saves X. */
  Asin: unaryRule([7, 24], ({ g }, dY, x) => g.div(dY, g.sqrt(g.sub(1, g.mul(x, x))))),
  /** Y = acos X: dX = -dY / sqrt(1 - X^2). Saves X. */
  Acos: unaryRule([7, 24], ({ g }, dY, x) => g.neg(g.div(dY, g.sqrt(g.sub(1, g.mul(x, x)))))),
  /** Y = atan X: dX = dY / (1 + X^2). Saves X. */
  Atan: unaryRule([7, 24], ({ g }, dY, x) => g.div(dY, g.add(g.mul(x, x), 1))),
};
