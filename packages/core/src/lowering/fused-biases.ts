import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";

/** Sums with a bias that ONNX Runtime writes for CUDA, ROCm and diffusion pipelines. */
export const fusedBiases = {
  /** Y = X + bias + skip. */
  "com.microsoft::BiasAdd": (c) => [c.g.add(c.g.add(required(c, 0), required(c, 1)), required(c, 2))],
  /** Y = left * Gelu(right), [left, right] = X + bias halved along the last axis. */
  "com.microsoft::BiasSplitGelu": (c) => {
    const { g } = c;
    const sum = g.add(required(c, 0), required(c, 1));
    const width = sum.shape.at(-1);
    if (typeof width !== "number" || width % 2 !== 0) return refuse(c, "the last axis has no known even size");
    const [left, right] = g.split(sum, [width / 2, width / 2], sum.shape.length - 1);
    const [gate] = g.op("Gelu", [right as Value], {}, { domain: "com.microsoft" });
    return [g.mul(left as Value, gate as Value)];
  },
  /**
   * Y = Softmax(X + bias) over `axis` and all axes after it. With is_inner_broadcast the bias lacks axes just before `axis`:
   * it is repeated there, else over the leading axes.
   */
  "com.microsoft::BiasSoftmax": (c) => {
    const { g } = c;
    const [x, bias] = [required(c, 0), required(c, 1)];
    const rank = x.shape.length;
    const raw = intAttribute(c.node, "axis", 1);
    const axis = raw < 0 ? raw + rank : raw;
    const sum = g.add(x, alignedBias(c, x, bias, axis));
    if (axis === rank - 1) return [g.softmax(sum, axis)];
    const rows: Dim[] = sum.shape.slice(0, axis);
    const flat = g.op("Flatten", [sum], { axis })[0] as Value;
    return [g.reshape(g.softmax(flat, 1), [...rows, ...sum.shape.slice(axis)], sum)];
  },
  /** Y = Dropout(X + bias) + residual, outside training: the sum. A fed ratio with a training flag is refused. */
  "com.microsoft::BiasDropout": (c) => {
    const { g } = c;
    const training = c.inputs[4] ? c.constant(4) : null;
    if (c.inputs[4] && (!training || toNumbers(training)[0] !== 0)) return refuse(c, "it is a graph in training mode");
    if (c.isRead(1)) return refuse(c, "its dropout mask is read");
    const sum = g.add(required(c, 0), required(c, 1));
    const ratio = c.inputs[3] ? c.constant(3) : null;
    const p = ratio ? (toFloat32Array(ratio)[0] ?? 0.5) : floatAttribute(c.node, "ratio", 0.5);
    const dropped = dropout(c, sum, p);
    return [c.inputs[2] ? g.add(dropped, required(c, 2)) : dropped];
  },
} satisfies Record<string, Expansion>;

/** A Dropout node, which training turns into a masked one. Its ratio is an input from opset 12. */
function dropout({ g }: ExpansionContext, x: Value, ratio: number): Value {
  const inputs = g.opset >= 12 ? [x, g.constant("float32", ratio)] : [x];
  return g.op("Dropout", inputs, g.opset >= 12 ? {} : { ratio: { type: "float", value: ratio } })[0] as Value;
}

function alignedBias(c: ExpansionContext, x: Value, bias: Value, axis: number): Value {
  const missing = x.shape.length - bias.shape.length;
  if (missing < 0) return refuse(c, "the bias has more axes than the scores");
  if (missing === 0 || intAttribute(c.node, "is_inner_broadcast", 0) === 0) return bias;
  return c.g.unsqueeze(
    bias,
    Array.from({ length: missing }, (_, i) => axis - missing + i),
  );
}
