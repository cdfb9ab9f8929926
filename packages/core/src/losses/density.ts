import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

export interface DensityOptions {
  /** |a| = sqrt(eps) counts half; default 1e-7. */
  readonly eps?: number;
  /** 1 for tokens that count and 0 for padding, [batch, tokens] of any type; default every token counts. */
  readonly mask?: Value | null;
}

/** Mean over the units of every token, then over tokens and samples: [batch, tokens, units] or its rows [batch·tokens, units] to a scalar. */
export function meanOverTokens(g: Builder, x: Value, mask: Value | null): Value {
  if (!mask) return g.reduceMean(x, [...x.shape.keys()], false);
  const flags = g.cast(mask, "float32"); // [batch, tokens]
  const ofToken = g.reshape(g.reduceMean(x, [-1], false), flags.shape); // [batch, tokens]
  const sums = g.reduceSum(g.mul(ofToken, flags), [1], false);
  return g.reduceMean(g.div(sums, g.max(g.reduceSum(flags, [1], false), 1)), [0], false);
}

/**
 * A differentiable count of the entries of activations that are not zero (Runwal et al. 2024, arXiv 2402.01911; an L0 surrogate):
 * f(a) = a² / (a² + eps), mean over units and tokens, then over samples, then over layers, so that layers of any width weigh the
 * same. Between 0 and 1. Its gradient 2 a eps / (a² + eps)² is largest at |a| = sqrt(eps / 3) and next to nothing for large
 * activations: it closes units that are nearly closed. Computed as 1 - eps / (a² + eps), which loses no digits of that gradient.
 *
 * @param activations of the layers, [batch, tokens, units] or rows [batch·tokens, units].
 * @returns a scalar; to be added to a mean loss.
 * @throws PeftError LOSS_SHAPE without activations
 * @example
 * const density = densityLoss(g, [hidden0, hidden1], { mask: g.value("attention_mask") });
 */
export function densityLoss(
  g: Builder,
  activations: readonly Value[],
  { eps = 1e-7, mask = null }: DensityOptions = {},
): Value {
  if (activations.length === 0)
    throw new PeftError("LOSS_SHAPE", "Expected activations of at least one layer, received none.");
  const layers = activations.map((activation) => {
    const a = g.cast(activation, "float32");
    const closed = g.div(eps, g.add(g.mul(a, a), eps)); // 1 - f
    return g.sub(1, meanOverTokens(g, closed, mask));
  });
  return g.div(
    layers.reduce((sum, layer) => g.add(sum, layer)),
    layers.length,
  );
}

/** Share of entries that are not exactly zero (-0 is zero), as {@link densityLoss} averages them for one layer. */
export function exactDensity(g: Builder, activation: Value, mask: Value | null): Value {
  if (activation.shape.length < 2) {
    throw new PeftError("LOSS_SHAPE", `Expected activations of tokens, received [${activation.shape.join(", ")}].`);
  }
  const a = g.cast(activation, "float32");
  return g.sub(1, meanOverTokens(g, g.cast(g.equal(a, 0), "float32"), mask));
}
