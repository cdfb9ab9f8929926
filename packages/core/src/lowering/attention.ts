import { floatAttribute, intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { attend } from "./attention-core.ts";
import { causalBias, paddingBias } from "./attention-mask.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { splitHeads } from "./heads.ts";

/** 0 and "left out" both mean 1 / sqrt(width of a head). */
export function scaleOf(c: ExpansionContext, q: Value): number {
  const scale = floatAttribute(c.node, "scale", 0);
  const width = q.shape.at(-1);
  if (scale !== 0) return scale;
  return typeof width === "number" ? 1 / Math.sqrt(width) : refuse(c, "the width of a head is not known");
}

/** Sizes of query, key and value in a packed projection of the given width. */
export function packedSizes(c: ExpansionContext, width: number | string | undefined): [number, number, number] {
  const given = intsAttribute(c.node, "qkv_hidden_sizes");
  if (given?.length === 3) return given as [number, number, number];
  if (typeof width !== "number" || width % 3 !== 0) return refuse(c, "the width of its packed weight is not known");
  return [width / 3, width / 3, width / 3];
}

/** Keys and values of earlier tokens, [2, batch, heads, past, width], before those of this run. */
function withPast({ g }: ExpansionContext, past: Value, k: Value, v: Value): [Value, Value] {
  const part = (i: number): Value => g.gather(past, g.constant("int64", i));
  return [g.concat([part(0), k], 2), g.concat([part(1), v], 2)];
}

/** Self-attention with its input projections inside. */
export const attention = {
  /**
   * [Q, K, V] = X·W + bias, split; then {@link attend}. W [hidden, q + k + v] stays one product in the forward. Inputs: X,
   * W, bias, mask (see {@link paddingBias}), past, attention bias. Outputs: Y, and keys and values stacked.
   */
  "com.microsoft::Attention": (c) => {
    const { g, node } = c;
    if (intAttribute(node, "do_rotary", 0) !== 0) return refuse(c, "do_rotary");
    if (intAttribute(node, "past_present_share_buffer", 0) !== 0) return refuse(c, "a cache of fixed length");
    const heads = intAttribute(node, "num_heads", 0);
    const product = g.matMul(required(c, 0), required(c, 1));
    const bias = c.inputs[2];
    const packed = bias ? g.add(product, bias) : product;
    const parts = g.split(packed, packedSizes(c, packed.shape.at(-1)), 2);
    const [q, ownK, ownV] = parts.map((part) => splitHeads(g, part, heads)) as [Value, Value, Value];
    const past = c.inputs[4];
    const [k, v] = past ? withPast(c, past, ownK, ownV) : [ownK, ownV];
    const biases: Value[] = [];
    const mask = c.inputs[3];
    if (c.inputs[5]) biases.push(required(c, 5));
    if (mask) biases.push(paddingBias(c, mask, q, k, floatAttribute(node, "mask_filter_value", -10000)));
    if (intAttribute(node, "unidirectional", 0) === 1) biases.push(causalBias(c, q, k));
    const y = attend(g, { q, k, v, scale: scaleOf(c, q), biases });
    const present = c.isRead(1) ? g.concat([g.unsqueeze(k, [0]), g.unsqueeze(v, [0])], 0) : null;
    return [y, present];
  },
} satisfies Record<string, Expansion>;
