import { float } from "../graph/attributes.ts";
import { floatAttribute, intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { scaleOf } from "./attention.ts";
import { attend } from "./attention-core.ts";
import { causalBias } from "./attention-mask.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { axisSize, range, splitHeads } from "./heads.ts";
import { anglesAt, rotate } from "./rotary.ts";

/** Query, key and value as [batch, heads, tokens, width]: three inputs, or one with the three side by side. */
function heads(c: ExpansionContext, count: number, shared: number): [Value, Value, Value] {
  const { g } = c;
  const [query, key, value] = [required(c, 0), c.inputs[1], c.inputs[2]];
  if (key && value) return [splitHeads(g, query, count), splitHeads(g, key, shared), splitHeads(g, value, shared)];
  const packed = query.shape.at(-1);
  if (typeof packed !== "number") return refuse(c, "the width of its packed input is not known");
  const width = packed / (count + 2 * shared);
  const [q, k, v] = g.split(query, [count * width, shared * width, shared * width], 2) as [Value, Value, Value];
  return [splitHeads(g, q, count), splitHeads(g, k, shared), splitHeads(g, v, shared)];
}

/** What has no plain form here; quantised and fixed-length caches above all. */
function checkSupported(c: ExpansionContext): void {
  const { node } = c;
  if (c.isRead(3)) refuse(c, "its scores are read");
  if (intAttribute(node, "sliding_window_cache", 0) !== 0) refuse(c, "a cache of fixed length");
  if (stringAttribute(node, "k_quant_type", "NONE") !== "NONE" || c.inputs[12] || c.inputs[13])
    refuse(c, "a quantised cache");
  if (c.inputs[16]) refuse(c, "query_seqlens");
  const length = c.inputs[3]?.shape[2];
  if (typeof length === "number" && length > 0) refuse(c, "a cache of fixed length");
}

/** RMS norm of every head, before positions are rotated in: Qwen3's. */
function normed(c: ExpansionContext, x: Value, weight: Value | null | undefined, name: string): Value {
  if (!weight) return x;
  const common = floatAttribute(c.node, "qk_norm_epsilon", 1e-6);
  const epsilon = float(floatAttribute(c.node, name, common));
  return c.g.op("SimplifiedLayerNormalization", [x, weight], { axis: -1, epsilon })[0] as Value;
}

/** Attention in which groups of heads share keys and values. */
export const groupQueryAttention = {
  /**
   * Inputs: query [batch, tokens, hidden] (or query, key and value side by side), key, value, past key and value [batch,
   * shared heads, past, width], lengths, total length, cosines, sines, positions, attention bias, sinks. Outputs: Y, present key and value.
   *
   * The lowered form is exact where all sequences of a batch have the same past: an empty one, as in training, or that of a
   * generation without padding. Lengths then say nothing that the causal order does not: padding is on the right, and what
   * comes out at padding is unspecified in the operator too.
   */
  "com.microsoft::GroupQueryAttention": (c) => {
    const { g, node } = c;
    checkSupported(c);
    const [count, shared] = [intAttribute(node, "num_heads", 0), intAttribute(node, "kv_num_heads", 0)];
    const [plainQ, plainK, ownV] = heads(c, count, shared);
    let q = normed(c, plainQ, c.inputs[14], "q_norm_epsilon");
    let ownK = normed(c, plainK, c.inputs[15], "k_norm_epsilon");
    const [pastKey, pastValue] = [c.inputs[3], c.inputs[4]];
    if (intAttribute(node, "do_rotary", 0) === 1) {
      const start = pastKey ? axisSize(g, pastKey, 2) : g.constant("int64", 0);
      const positions = c.inputs[9] ?? range(g, start, g.add(start, axisSize(g, q, 2)));
      const angles = anglesAt(c, required(c, 7), required(c, 8), positions);
      const interleaved = intAttribute(node, "rotary_interleaved", 0) === 1;
      [q, ownK] = [rotate(c, q, angles, interleaved), rotate(c, ownK, angles, interleaved)];
    }
    const k = pastKey ? g.concat([pastKey, ownK], 2) : ownK;
    const v = pastValue ? g.concat([pastValue, ownV], 2) : ownV;
    const biases: Value[] = [];
    if (c.inputs[10]) biases.push(required(c, 10));
    if (intAttribute(node, "causal", 1) === 1) {
      biases.push(causalBias(c, q, k, Math.max(0, intAttribute(node, "local_window_size", -1))));
    }
    const smooth = intAttribute(node, "smooth_softmax", 0) === 1;
    const y = attend(g, {
      q,
      k,
      v,
      scale: scaleOf(c, q),
      biases,
      softcap: floatAttribute(node, "softcap", 0),
      sink: c.inputs[11] ?? (smooth ? 0 : null),
    });
    return [y, c.isRead(1) ? k : null, c.isRead(2) ? v : null];
  },
} satisfies Record<string, Expansion>;
