import type { AttributeInput } from "../graph/attributes.ts";
import { stringAttribute } from "../onnx/infer/context.ts";
import type { TensorData, Value } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { activated } from "./activation.ts";
import { type Expansion, type ExpansionContext, required } from "./expansion.ts";

const window = ["auto_pad", "dilations", "kernel_shape", "pads", "strides"];

/** Those of a node's attributes that the plain operator has too. */
const kept = (c: ExpansionContext, more: readonly string[]): Record<string, AttributeInput> =>
  Object.fromEntries(Object.entries(c.node.attributes).filter(([name]) => [...window, ...more].includes(name)));

const convolution = (c: ExpansionContext, x: Value, weight: Value): Value =>
  c.g.op("Conv", [x, weight, c.inputs[2] ?? null], kept(c, ["group"]))[0] as Value;

/** [batch, ..., channels] as [batch, channels, ...] and back. */
const channelsFirst = ({ g }: ExpansionContext, x: Value): Value =>
  g.transpose(x, [0, x.shape.length - 1, ...x.shape.slice(2).map((_, i) => i + 1)]);
const channelsLast = ({ g }: ExpansionContext, x: Value): Value =>
  g.transpose(x, [0, ...x.shape.slice(2).map((_, i) => i + 2), 1]);

/** The activation that a fused convolution names, with its parameters in order. */
function activation(c: ExpansionContext, x: Value): Value {
  const given = c.node.attributes["activation_params"];
  return activated(c, x, stringAttribute(c.node, "activation", ""), given?.type === "floats" ? given.value : []);
}

const withSum = (c: ExpansionContext, y: Value): Value => (c.inputs[3] ? c.g.add(y, required(c, 3)) : y);

/** A filter [out, ...kernel, in] as [out, in, ...kernel]; a constant is turned now, so that it is a convolution's own weight. */
function filterOf(c: ExpansionContext): Value {
  const filter = required(c, 1);
  const tensor = c.constant(1);
  if (tensor?.type !== "float32") return channelsFirst(c, filter);
  const name = `${filter.name}:channels_first`;
  return c.g.has(name) ? c.g.value(name) : c.g.initializer(name, turned(tensor));
}

function turned(tensor: TensorData): TensorData {
  const [out = 1, ...rest] = tensor.dims;
  const [channels, kernel] = [rest.at(-1) ?? 1, rest.slice(0, -1)];
  const positions = kernel.reduce((a, b) => a * b, 1);
  const data = toFloat32Array(tensor);
  const result = new Float32Array(data.length);
  for (let o = 0; o < out; o++)
    for (let p = 0; p < positions; p++)
      for (let i = 0; i < channels; i++)
        result[(o * channels + i) * positions + p] = data[(o * positions + p) * channels + i] as number;
  return tensorFrom("float32", [out, channels, ...kernel], result);
}

/** Convolutions with something behind them, and in the layout with channels last. */
export const fusedConvolutions = {
  /** Y = activation(Conv(X, W, B) + Z). */
  "com.microsoft::FusedConv": (c) => [activation(c, withSum(c, convolution(c, required(c, 0), required(c, 1))))],
  /** Conv over X [batch, ..., channels] with a filter [out, ...kernel, in]. */
  "com.microsoft::NhwcConv": (c) => [channelsLast(c, convolution(c, channelsFirst(c, required(c, 0)), filterOf(c)))],
  /** Y = activation(Conv + Z) over X [batch, ..., channels]; the filter is Conv's own [out, in, ...kernel], Z has channels last. */
  "com.microsoft::NhwcFusedConv": (c) => {
    const y = channelsLast(c, convolution(c, channelsFirst(c, required(c, 0)), required(c, 1)));
    return [activation(c, withSum(c, y))];
  },
  /** MaxPool over X [batch, ..., channels]. */
  "com.microsoft::NhwcMaxPool": (c) => {
    const [y] = c.g.op("MaxPool", [channelsFirst(c, required(c, 0))], kept(c, ["ceil_mode"]));
    return [channelsLast(c, y as Value)];
  },
} satisfies Record<string, Expansion>;
