import { float } from "../graph/attributes.ts";
import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { reshapeTo } from "./heads.ts";

/** Whether channels are the last axis; the operators' own default. */
const isChannelsLast = ({ node }: ExpansionContext): boolean => intAttribute(node, "channels_last", 1) !== 0;

/**
 * Y = act(gamma * (X - mean) / sqrt(variance + epsilon) + beta), mean and variance of each group of neighbouring channels: what PyTorch exports
 * for GroupNorm, an InstanceNormalization of [batch, groups, rest] with scale 1.
 */
function groupNorm(c: ExpansionContext, x: Value): Value {
  const { g, node } = c;
  const [groups, act] = [intAttribute(node, "groups", 0), intAttribute(node, "activation", 0)];
  if (groups < 1) return refuse(c, `${groups} groups`);
  if (act !== 0 && act !== 1) return refuse(c, `activation ${act}`);
  const last = isChannelsLast(c);
  const first = last ? g.transpose(x, [0, 3, 1, 2]) : x;
  const constants = [1, 0].map((v) => g.filled([groups], v, x.type)) as [Value, Value];
  const flat = reshapeTo(g, first, [0, groups, -1]);
  const epsilon = float(floatAttribute(node, "epsilon", 1e-5));
  const [unit] = g.op("InstanceNormalization", [flat, ...constants], { epsilon });
  const normal = g.reshapeLike(unit as Value, first);
  const perChannel = (v: Value): Value => g.unsqueeze(g.cast(v, x.type), [1, 2]);
  const y = g.add(g.mul(normal, perChannel(required(c, 1))), perChannel(required(c, 2)));
  const z = act === 1 ? g.mul(y, g.sigmoid(y)) : y;
  return last ? g.transpose(z, [0, 2, 3, 1]) : z;
}

/** X + skip + bias; skip is as large as X, or one row of channels for each image. */
function skipSum(c: ExpansionContext): Value {
  const { g } = c;
  const [x, skip, bias] = [required(c, 0), required(c, 3), c.inputs[4] ?? null];
  const axes = isChannelsLast(c) ? [1, 2] : [2, 3];
  const sum = g.add(x, skip.shape.length === 2 ? g.unsqueeze(skip, axes) : skip);
  return bias ? g.add(sum, isChannelsLast(c) ? bias : g.unsqueeze(bias, [1, 2])) : sum;
}

/** Group normalisations of diffusion models, as ONNX Runtime's optimiser writes them for GPUs. */
export const groupNorms = {
  /** X [batch, height, width, channels], or with channels_last = 0 [batch, channels, height, width]; gamma, beta. */
  "com.microsoft::GroupNorm": (c) => [groupNorm(c, required(c, 0))],
  /** Of S = X + skip + bias; inputs X, gamma, beta, skip, bias, outputs Y and S. */
  "com.microsoft::SkipGroupNorm": (c) => {
    const sum = skipSum(c);
    return [groupNorm(c, sum), sum];
  },
} satisfies Record<string, Expansion>;
