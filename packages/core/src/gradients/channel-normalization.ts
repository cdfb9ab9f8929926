import { sizeOf } from "../onnx/dims.ts";
import { floatAttribute, intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { normalized, statisticsOf } from "./normalization.ts";
import { type RuleContext, rule } from "./rule.ts";

/** A vector [channels] as [channels, 1, ...], so that it broadcasts against x [batch, channels, ...]. */
function perChannel(c: RuleContext, vector: Value, x: Value): Value {
  const trailing = x.shape.length - 2;
  return c.g.unsqueeze(
    vector,
    upTo(trailing).map((i) => i + 1),
  );
}

/** Sum over everything but the channel axis. */
const sumPerChannel = (c: RuleContext, x: Value): Value =>
  c.g.reduceSum(
    x,
    upTo(x.shape.length).filter((axis) => axis !== 1),
    false,
  );

const epsilonOf = (c: RuleContext): number => floatAttribute(c.node, "epsilon", 1e-5);

/**
 * BatchNormalization with the statistics of the batch: as InstanceNormalization over the batch axis too. What it hands out
 * besides, Running = m * Given + (1 - m) * (batch mean or variance), has a gradient as well: with r = (1 - m) / places,
 * dX += r * (dRunningMean + 2 (X - mean) dRunningVariance), dGiven = m * dRunning.
 */
function batchNormalizationInTraining(c: RuleContext): readonly (Value | null)[] {
  const { g, needs, dOutputs } = c;
  const [x, scale] = [inputAt(c, 0), inputAt(c, 1)];
  const momentum = floatAttribute(c.node, "momentum", 0.9);
  const axes = upTo(x.shape.length).filter((axis) => axis !== 1);
  const statistics = statisticsOf(c, x, axes, epsilonOf(c));
  const [dY, dMean, dVariance] = [dOutputs[0] ?? null, dOutputs[1] ?? null, dOutputs[2] ?? null];
  const wanted = { dX: needs[0] === true, dWeight: needs[1] === true };
  const found = dY && normalized(c, dY, x, perChannel(c, scale, x), axes, statistics, wanted);
  const places = sizeOf(x.shape.filter((_, axis) => axis !== 1));
  const total = typeof places === "number" ? places : g.cast(g.squeeze(g.shapeTensor([places]), [0]), x.type);
  const share = (d: Value, factor: number): Value => perChannel(c, g.div(g.mul(d, factor * (1 - momentum)), total), x);
  const parts = [
    found?.dX ?? null,
    needs[0] && dMean ? share(dMean, 1) : null,
    needs[0] && dVariance ? g.mul(g.sub(x, statistics.mean), share(dVariance, 2)) : null,
  ];
  const given = (d: Value | null): Value | null => d && g.mul(d, momentum);
  return [
    parts.reduce((a, b) => (a && b ? g.add(a, b) : (a ?? b)), null),
    found?.dWeight ? sumPerChannel(c, found.dWeight) : null,
    needs[2] && dY ? sumPerChannel(c, dY) : null,
    needs[3] ? given(dMean) : null,
    needs[4] ? given(dVariance) : null,
  ];
}

/** BatchNormalization with given statistics: inverse = 1 / sqrt(Variance + epsilon), factor = Scale * inverse. */
function batchNormalization(c: RuleContext): readonly (Value | null)[] {
  const { g, needs } = c;
  if (intAttribute(c.node, "training_mode", 0) === 1) return batchNormalizationInTraining(c);
  const [x, scale, mean, variance] = [inputAt(c, 0), inputAt(c, 1), inputAt(c, 3), inputAt(c, 4)];
  const dY = dOutput(c);
  const inverse = g.reciprocal(g.sqrt(g.add(variance, epsilonOf(c))));
  const factor = g.mul(scale, inverse);
  const total = needs[2] || needs[3] ? sumPerChannel(c, dY) : null;
  const dot = needs[1] || needs[4] ? sumPerChannel(c, g.mul(dY, g.sub(x, perChannel(c, mean, x)))) : null;
  return [
    needs[0] ? g.mul(dY, perChannel(c, factor, x)) : null,
    needs[1] && dot ? g.mul(dot, inverse) : null,
    needs[2] ? total : null,
    needs[3] && total ? g.neg(g.mul(total, factor)) : null,
    needs[4] && dot ? g.mul(g.mul(dot, factor), g.mul(g.mul(inverse, inverse), -0.5)) : null,
  ];
}

/** GroupNormalization: the groups' statistics in the layout [batch, groups, rest], Scale and Bias in their own. */
function groupNormalization(c: RuleContext): readonly (Value | null)[] {
  const { g, needs } = c;
  const [x, scale, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
  const groups = intAttribute(c.node, "num_groups", 1);
  const grouped = (v: Value): Value => g.op("Reshape", [v, g.ints([0, groups, -1])])[0] as Value;
  const statistics = statisticsOf(c, grouped(x), [2], epsilonOf(c));
  // Scale and Bias belong to channels from opset 21, to groups before.
  const byChannel = g.opset >= 21;
  const factor = byChannel ? perChannel(c, scale, x) : g.unsqueeze(scale, [1]);
  const scaled = byChannel ? grouped(g.mul(dY, factor)) : g.mul(grouped(dY), factor);
  const { dX } = normalized(c, scaled, grouped(x), null, [2], statistics, { dX: needs[0] === true, dWeight: false });
  const own = (v: Value): Value => sumPerChannel(c, byChannel ? g.reshapeLike(v, x) : v);
  const hat = (): Value => g.mul(g.sub(grouped(x), statistics.mean), statistics.inverse);
  return [
    dX ? g.reshapeLike(dX, x) : null,
    needs[1] ? own(g.mul(grouped(dY), hat())) : null,
    needs[2] ? own(grouped(dY)) : null,
  ];
}

/** Sum of `size` neighbours along the channel axis, `before` of them in front; zeros outside. */
function windowSum(c: RuleContext, x: Value, size: number, before: number): Value {
  const { g } = c;
  const place = (amount: number): number[] => upTo(x.shape.length).map((axis) => (axis === 1 ? amount : 0));
  const [padded] = g.op("Pad", [x, g.ints([...place(before), ...place(size - 1 - before)])]);
  return upTo(size)
    .map((i) => g.slice(padded as Value, [i], [i === size - 1 ? 2 ** 31 - 1 : i + 1 - size], [1]))
    .reduce((a, b) => g.add(a, b));
}

/** Normalisations of images and the like: x [batch, channels, ...]. */
export const channelNormalization = {
  /**
   * Y = (X - Mean) / sqrt(Variance + epsilon) * Scale + B per channel, with given statistics (inference mode):
   *   dX = dY * factor, dScale = sum dY (X - Mean) inverse, dB = sum dY, dMean = -sum dY factor,
   *   dVariance = -1/2 sum dY (X - Mean) factor inverse^2. A frozen one saves nothing.
   * In training mode the statistics are the batch's: {@link batchNormalizationInTraining}. Saves X.
   */
  BatchNormalization: rule([9, 24], batchNormalization),
  /** As LayerNormalization over the spatial axes of every sample and channel. Saves X. */
  InstanceNormalization: rule([6, 24], (c) => {
    const [x, scale, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const axes = upTo(x.shape.length).slice(2);
    const statistics = statisticsOf(c, x, axes, epsilonOf(c));
    const wanted = { dX: c.needs[0] === true, dWeight: c.needs[1] === true };
    const { dX, dWeight } = normalized(c, dY, x, perChannel(c, scale, x), axes, statistics, wanted);
    return [dX, dWeight && sumPerChannel(c, dWeight), c.needs[2] ? sumPerChannel(c, dY) : null];
  }),
  /** Y = (X - mean) / standard deviation over `axes`, by default all but channels. Saves X. */
  MeanVarianceNormalization: rule([9, 24], (c) => {
    const x = inputAt(c, 0);
    const axes = (intsAttribute(c.node, "axes") ?? [0, 2, 3]).map((a) => positiveAxis(a, x.shape.length));
    // The definition adds 1e-9 to the deviation; under the root that is its square.
    const statistics = statisticsOf(c, x, axes, 1e-18);
    return [normalized(c, dOutput(c), x, null, axes, statistics, { dX: true, dWeight: false }).dX];
  }),
  /** As LayerNormalization over each of `num_groups` groups of channels of every sample. Saves X. */
  GroupNormalization: rule([18, 24], groupNormalization),
  /**
   * Y = X / n with n the L2 or L1 norm over `axis`: dX = (dY - Y sum(dY Y)) / n, or (dY - sign(X) sum(dY Y)) / n.
   * Zero where n is 0, as Y is. Saves X and Y.
   */
  LpNormalization: rule([1, 24], (c) => {
    const { g } = c;
    const [x, y, dY] = [inputAt(c, 0), outputAt(c), dOutput(c)];
    const axes = [positiveAxis(intAttribute(c.node, "axis", -1), x.shape.length)];
    const euclidean = intAttribute(c.node, "p", 2) === 2;
    const norm = euclidean ? g.sqrt(g.reduceSum(g.mul(x, x), axes)) : g.reduceSum(g.abs(x), axes);
    const zero = g.constant(x.type, 0);
    const inverse = g.where(g.greater(norm, 0), g.reciprocal(norm), zero);
    const along = g.mul(euclidean ? y : (g.op("Sign", [x])[0] as Value), g.reduceSum(g.mul(dY, y), axes));
    return [g.mul(g.sub(dY, along), inverse)];
  }),
  /**
   * Y = X D^-beta, D = bias + alpha / size * window sum of X^2 over neighbouring channels:
   *   dX = dY D^-beta - 2 alpha beta / size * X * (mirrored window sum of dY X D^(-beta-1)). Saves X.
   */
  LRN: rule([1, 24], (c) => {
    const { g } = c;
    const [x, dY] = [inputAt(c, 0), dOutput(c)];
    const size = intAttribute(c.node, "size", 1);
    const before = Math.floor((size - 1) / 2);
    const share = floatAttribute(c.node, "alpha", 1e-4) / size;
    const beta = floatAttribute(c.node, "beta", 0.75);
    const squares = windowSum(c, g.mul(x, x), size, before);
    const base = g.add(g.mul(squares, share), floatAttribute(c.node, "bias", 1));
    const direct = g.mul(dY, g.pow(base, -beta));
    const spread = windowSum(c, g.mul(x, g.div(direct, base)), size, size - 1 - before);
    return [g.sub(direct, g.mul(g.mul(x, spread), 2 * share * beta))];
  }),
};
