import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { scaleOf } from "./attention.ts";
import { attend } from "./attention-core.ts";
import { causalBias, paddingBias } from "./attention-mask.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { splitHeads } from "./heads.ts";

/**
 * The bias [q + k + v] of three projections, one for each. A constant is cut now, so that every projection has a bias of its
 * own; names end in the projection's.
 */
export function biasParts(c: ExpansionContext, sizes: readonly number[]): (Value | null)[] {
  const bias = c.inputs[3];
  if (!bias) return [null, null, null];
  const tensor = c.constant(3);
  if (tensor?.type !== "float32") return c.g.split(bias, sizes, 0);
  const data = toFloat32Array(tensor);
  let from = 0;
  return ["query", "key", "value"].map((name, i) => {
    const size = sizes[i] ?? 0;
    const part = data.slice(from, from + size);
    from += size;
    const own = `${bias.name}:${name}:${c.node.outputs[0] ?? ""}`;
    return c.g.initializer(own, tensorFrom("float32", [size], part));
  });
}

/** One of `count` stacked values along the axis before the last: [..., count, width] as [batch, heads, tokens, width]. */
const unstack = ({ g }: ExpansionContext, packed: Value, i: number): Value =>
  g.transpose(g.gather(packed, g.constant("int64", i), 3), [0, 2, 1, 3]);

/** Query, key and value as [batch, heads, tokens, width], biases added. */
function heads(c: ExpansionContext): [Value, Value, Value] {
  const { g, node } = c;
  const count = intAttribute(node, "num_heads", 0);
  const [query, key, value] = [required(c, 0), c.inputs[1] ?? null, c.inputs[2] ?? null];
  const width = (x: Value): number => {
    const last = x.shape.at(-1);
    return typeof last === "number" ? last : refuse(c, "the width of a projection is not known");
  };
  if (query.shape.length === 5) {
    const parts = [0, 1, 2].map((i) => unstack(c, query, i));
    const bias = biasParts(c, new Array(3).fill(count * width(query)));
    return parts.map((part, i) => withBias(c, part, bias[i] ?? null, count)) as [Value, Value, Value];
  }
  if (!key) return refuse(c, "it has neither a key nor a packed query");
  if (key.shape.length === 5) {
    const [bq] = biasParts(c, [width(query), width(query), width(query)]);
    if (bq) return refuse(c, "a bias beside packed keys and values");
    return [splitHeads(g, query, count), unstack(c, key, 0), unstack(c, key, 1)];
  }
  if (!value) return refuse(c, "it has a key and no value");
  const isSplit = key.shape.length === 4;
  const sizes = isSplit ? [width(query), 0, 0] : [width(query), width(key), width(value)];
  if (isSplit && c.inputs[3]) return refuse(c, "a bias beside keys that are split into heads");
  const [bq, bk, bv] = biasParts(c, sizes);
  const project = (x: Value, b: Value | null | undefined): Value => splitHeads(g, b ? g.add(x, b) : x, count);
  return [project(query, bq), isSplit ? key : project(key, bk), isSplit ? value : project(value, bv)];
}

/** A bias [heads * width] on [batch, heads, tokens, width]. */
function withBias({ g }: ExpansionContext, x: Value, bias: Value | null, count: number): Value {
  if (!bias) return x;
  return g.add(x, g.op("Reshape", [bias, g.ints([1, count, 1, -1])])[0] as Value);
}

/** Attention over given projections. */
export const multiHeadAttention = {
  /**
   * Inputs: query [batch, tokens, hidden] or packed [batch, tokens, heads, 3, width]; key [batch, keys, hidden], packed with
   * the value [batch, keys, heads, 2, width], or split [batch, heads, keys, width]; value; bias; key padding mask (see
   * {@link paddingBias}); attention bias; past key and value. Outputs: Y, present key, present value.
   */
  "com.microsoft::MultiHeadAttention": (c) => {
    const { g, node } = c;
    if (c.inputs[8] || c.inputs[9]) return refuse(c, "a cache of fixed length, or of beams");
    if (c.isRead(3)) return refuse(c, "its scores are read");
    const [q, ownK, ownV] = heads(c);
    const [pastKey, pastValue] = [c.inputs[6], c.inputs[7]];
    const k = pastKey ? g.concat([pastKey, ownK], 2) : ownK;
    const v = pastValue ? g.concat([pastValue, ownV], 2) : ownV;
    const biases: Value[] = [];
    const mask = c.inputs[4];
    if (c.inputs[5]) biases.push(required(c, 5));
    if (mask) biases.push(paddingBias(c, mask, q, k, floatAttribute(node, "mask_filter_value", -10000)));
    if (intAttribute(node, "unidirectional", 0) === 1) biases.push(causalBias(c, q, k));
    const y = attend(g, { q, k, v, scale: scaleOf(c, q), biases });
    return [y, c.isRead(1) ? k : null, c.isRead(2) ? v : null];
  },
} satisfies Record<string, Expansion>;
