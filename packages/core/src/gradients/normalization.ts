import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";

/** Mean and reciprocal standard deviation over `axes`, kept as size 1. */
export interface Statistics {
  readonly mean: Value;
  readonly inverse: Value;
}

export interface Wanted {
  readonly dX: boolean;
  readonly dWeight: boolean;
}

export interface Gradients {
  readonly dX: Value | null;
  readonly dWeight: Value | null;
}

const nothing: Gradients = { dX: null, dWeight: null };

/** Statistics computed anew, for operators that do not hand theirs out: one element-wise pass and two reductions more. */
export function statisticsOf(c: RuleContext, x: Value, axes: readonly number[], epsilon: number): Statistics {
  const { g } = c;
  const mean = g.reduceMean(x, axes);
  const centred = g.sub(x, mean);
  const variance = g.reduceMean(g.mul(centred, centred), axes);
  return { mean, inverse: g.reciprocal(g.sqrt(g.add(variance, epsilon))) };
}

/**
 * Gradients of Y = X^ * W + B with X^ = (X - mean) * inverse, all means over `axes`, C = X - mean, G = dY * W:
 *   dX = inverse * G - (inverse^3 * mean(G * C)) * C - inverse * mean(G), dW = dY * C * inverse, dB = dY.
 * C is formed before anything is multiplied: with the means of X itself, dX cancels where |mean| is far above the
 * standard deviation. Seven element-wise passes; X^ itself would take eight.
 */
export function normalized(
  c: RuleContext,
  dY: Value,
  x: Value,
  weight: Value | null,
  axes: readonly number[],
  { mean, inverse }: Statistics,
  wanted: Wanted,
): Gradients {
  const { g } = c;
  const centred = g.sub(x, mean);
  let dX: Value | null = null;
  if (wanted.dX) {
    const scaled = weight ? g.mul(dY, weight) : dY;
    const slope = g.mul(g.mul(g.mul(inverse, inverse), inverse), g.reduceMean(g.mul(scaled, centred), axes));
    const shift = g.mul(inverse, g.reduceMean(scaled, axes));
    dX = g.sub(g.sub(g.mul(scaled, inverse), g.mul(centred, slope)), shift);
  }
  return { dX, dWeight: wanted.dWeight ? g.mul(g.mul(dY, centred), inverse) : null };
}

/**
 * Gradients of Y = X * inverse * W with inverse = 1 / sqrt(mean(X^2) + epsilon), G = dY * W:
 *   dX = inverse * G - (inverse^3 * mean(G * X)) * X, dW = dY * X * inverse.
 */
export function rootMeanSquare(
  c: RuleContext,
  dY: Value,
  x: Value,
  weight: Value,
  axes: readonly number[],
  inverse: Value,
  wanted: Wanted,
): Gradients {
  const { g } = c;
  let dX: Value | null = null;
  if (wanted.dX) {
    const scaled = g.mul(dY, weight);
    const slope = g.mul(g.mul(g.mul(inverse, inverse), inverse), g.reduceMean(g.mul(scaled, x), axes));
    dX = g.sub(g.mul(scaled, inverse), g.mul(x, slope));
  }
  return { dX, dWeight: wanted.dWeight ? g.mul(g.mul(dY, x), inverse) : null };
}

/** `axis` and all after it. */
function trailingAxes(c: RuleContext, fallback = -1): number[] {
  const rank = inputAt(c, 0).shape.length;
  return upTo(rank).slice(positiveAxis(intAttribute(c.node, "axis", fallback), rank));
}

const wantedOf = (c: RuleContext, x: number, weight: number): Wanted => ({
  dX: c.needs[x] === true,
  dWeight: c.needs[weight] === true,
});

/** 1 / sqrt(mean(X^2) + epsilon). */
function inverseRootMeanSquare(c: RuleContext, x: Value, axes: readonly number[]): Value {
  const { g } = c;
  const epsilon = floatAttribute(c.node, "epsilon", 1e-5);
  return g.reciprocal(g.sqrt(g.add(g.reduceMean(g.mul(x, x), axes), epsilon)));
}

/** The sum that a Skip normalisation normalises, and what flows into it besides through the normalisation. */
function skipSum(c: RuleContext): { sum: Value; axes: number[]; collect: (dX: Value | null) => Value | null } {
  const sum = c.g.extraOutput(c.node, 3);
  const direct = c.dOutputs[3] ?? null;
  return {
    sum,
    axes: [sum.shape.length - 1],
    collect: (dX) => (dX && direct ? c.g.add(dX, direct) : (dX ?? direct)),
  };
}

/** Normalisations over the trailing axes. Statistics are float32 also for float16 inputs. */
export const normalization = {
  /**
   * Y = (X - mean) / sqrt(variance + epsilon) * Scale + B over `axis` and all axes after it. Formulas: {@link normalized}.
   * Saves X and the statistics, which the operator hands out (ONNX Runtime has it in every opset, ONNX from 17).
   */
  LayerNormalization: rule([1, 24], (c) => {
    const { g, needs } = c;
    const [x, weight, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    if (!needs[0] && !needs[1]) return [null, null, dY];
    const mean = g.cast(g.extraOutput(c.node, 1), x.type);
    const inverse = g.cast(g.extraOutput(c.node, 2), x.type);
    const { dX, dWeight } = normalized(c, dY, x, weight, trailingAxes(c), { mean, inverse }, wantedOf(c, 0, 1));
    return [dX, dWeight, needs[2] ? dY : null];
  }),
  /** Y = X / sqrt(mean(X^2) + epsilon) * Scale over `axis` and all after it: {@link rootMeanSquare}. Saves X. */
  RMSNormalization: rule([23, 24], (c) => {
    const [x, weight] = [inputAt(c, 0), inputAt(c, 1)];
    const axes = trailingAxes(c);
    const inverse = inverseRootMeanSquare(c, x, axes);
    const { dX, dWeight } = rootMeanSquare(c, dOutput(c), x, weight, axes, inverse, wantedOf(c, 0, 1));
    return [dX, dWeight];
  }),
  /** The same as ONNX Runtime's own operator, which hands out the inverse. Saves X and the inverse. */
  SimplifiedLayerNormalization: rule([1, 24], (c) => {
    const [x, weight] = [inputAt(c, 0), inputAt(c, 1)];
    const inverse = c.g.cast(c.g.extraOutput(c.node, 1), x.type);
    const { dX, dWeight } = rootMeanSquare(c, dOutput(c), x, weight, trailingAxes(c), inverse, wantedOf(c, 0, 1));
    return [dX, dWeight];
  }),
  /**
   * S = X + Skip + Bias, Y = LayerNormalization(S) * Gamma + Beta over the last axis; output 3 is S. The CPU kernel does
   * not fill the statistics in, so they are computed anew. dX = dSkip = dBias = dS. Saves S.
   */
  "com.microsoft::SkipLayerNormalization": rule([1, 24], (c) => {
    const { sum, axes, collect } = skipSum(c);
    const dY = c.dOutputs[0] ?? null;
    const wanted = { dX: Boolean(c.needs[0] || c.needs[1] || c.needs[4]), dWeight: c.needs[2] === true };
    let found = nothing;
    if (dY && (wanted.dX || wanted.dWeight)) {
      const statistics = statisticsOf(c, sum, axes, floatAttribute(c.node, "epsilon", 1e-12));
      found = normalized(c, dY, sum, inputAt(c, 2), axes, statistics, wanted);
    }
    const dSum = wanted.dX ? collect(found.dX) : null;
    return [dSum, dSum, found.dWeight, c.needs[3] ? dY : null, c.needs[4] ? dSum : null];
  }),
  /** S = X + Skip + Bias, Y = RMS norm of S * Gamma over the last axis; output 3 is S. Saves S. */
  "com.microsoft::SkipSimplifiedLayerNormalization": rule([1, 24], (c) => {
    const { sum, axes, collect } = skipSum(c);
    const dY = c.dOutputs[0] ?? null;
    const wanted = { dX: Boolean(c.needs[0] || c.needs[1] || c.needs[3]), dWeight: c.needs[2] === true };
    let found = nothing;
    if (dY && (wanted.dX || wanted.dWeight)) {
      found = rootMeanSquare(c, dY, sum, inputAt(c, 2), axes, inverseRootMeanSquare(c, sum, axes), wanted);
    }
    const dSum = wanted.dX ? collect(found.dX) : null;
    return [dSum, dSum, found.dWeight, c.needs[3] ? dSum : null];
  }),
};
