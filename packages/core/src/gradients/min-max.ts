import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { asMask } from "./masks.ts";
import { type RuleContext, rule } from "./rule.ts";

const total = (g: Builder, list: readonly Value[]): Value | undefined =>
  list.slice(1).reduce<Value | undefined>((sum, v) => (sum ? g.add(sum, v) : v), list[0]);

/**
 * Y is the largest (smallest) of n inputs, broadcast: dXi = dY * [Xi = Y] / m, where m inputs share the place. Saves all
 * inputs and Y. One comparison per input, and no difference of infinities.
 */
function extreme(c: RuleContext): (Value | null)[] {
  const { g } = c;
  const y = outputAt(c);
  if (c.inputs.length === 1) return [dOutput(c)];
  const masks = c.inputs.map((_, i) => asMask(g, g.equal(inputAt(c, i), y), y));
  const winners = total(g, masks) ?? g.constant(y.type, 1);
  const share = g.div(dOutput(c), winners);
  return masks.map((mask, i) => (c.needs[i] ? g.mul(share, mask) : null));
}

/** Limits and extremes of several values. Ties share the gradient evenly, as torch.maximum does. */
export const minMax = {
  Min: rule([8, 24], extreme),
  Max: rule([8, 24], extreme),
  /**
   * Y = min(max(X, low), high), both limits optional scalars: dX = dY where low <= X <= high (X = Y), dLow = dY where
   * X < low < high, dHigh = dY where X > high or low > high. Saves X and Y. The limits' gradients are PyTorch's.
   */
  Clip: rule([11, 24], (c) => {
    const { g } = c;
    const [dY, x, y] = [dOutput(c), inputAt(c, 0), outputAt(c)];
    const [low, high] = [c.inputs[1] ?? null, c.inputs[2] ?? null];
    const through = (condition: Value): Value => g.mul(dY, asMask(g, condition, dY));
    const gradients: (Value | null)[] = [c.needs[0] ? through(g.equal(x, y)) : null];
    if (low) {
      const below = g.less(x, low);
      gradients[1] = c.needs[1] ? through(high ? g.and(below, g.less(low, high)) : below) : null;
    }
    if (high) {
      const above = g.greater(x, high);
      gradients[1] ??= null;
      gradients[2] = c.needs[2] ? through(low ? g.or(above, g.less(high, low)) : above) : null;
    }
    return gradients;
  }),
};
