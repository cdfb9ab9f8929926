import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { packedSizes, scaleOf } from "./attention.ts";
import { attend } from "./attention-core.ts";
import { filterWhere } from "./attention-mask.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { positionsOf, splitHeads } from "./heads.ts";
import { biasParts } from "./multi-head-attention.ts";
import { removePadding, restorePadding } from "./padding.ts";

/**
 * Attention over real tokens: projections [count, width] go to their places in [batch, tokens, width], keys beyond a row's length are hidden,
 * and the result comes back as [count, value width].
 */
function attendPacked(c: ExpansionContext, projections: readonly [Value, Value, Value]): Value {
  const { g, node } = c;
  const [offsets, sums] = [required(c, 4 - shift(c)), required(c, 5 - shift(c))];
  const heads = intAttribute(node, "num_heads", 0);
  const [q, k, v] = projections.map((x) => splitHeads(g, restorePadding(g, x, offsets), heads)) as [
    Value,
    Value,
    Value,
  ];
  const lengths = g.sub(g.slice(sums, [1], [2 ** 31 - 1], [0]), g.slice(sums, [0], [-1], [0]));
  const counts = g.less(g.cast(positionsOf(g, k, 2), lengths.type), g.unsqueeze(lengths, [1]));
  const hidden = filterWhere(c, counts, floatAttribute(node, "mask_filter_value", -10000), q.type);
  const bias = c.inputs[6 - shift(c)];
  const biases = [...(bias ? [bias] : []), g.unsqueeze(hidden, [1, 2])];
  const y = attend(g, { q, k, v, scale: scaleOf(c, q), biases });
  return removePadding(g, y, offsets, projections[0]);
}

/** PackedAttention has one input less in front of the places of its tokens. */
const shift = ({ node }: ExpansionContext): number => (node.op === "PackedAttention" ? 1 : 0);

/** Query, key and value of PackedMultiHeadAttention with their biases, [count, width] each. */
function projectionsOf(c: ExpansionContext): [Value, Value, Value] {
  const { g, node } = c;
  const [query, key, value] = [required(c, 0), c.inputs[1] ?? null, c.inputs[2] ?? null];
  if (query.shape.length === 4) {
    const parts = [0, 1, 2].map(
      (i) => g.op("Flatten", [g.gather(query, g.constant("int64", i), 2)], { axis: 1 })[0] as Value,
    );
    return withBiases(c, parts as [Value, Value, Value]);
  }
  if (!key || !value)
    return refuse(c, `it has neither a key and a value nor a packed query (${node.inputs.length} inputs)`);
  return withBiases(c, [query, key, value]);
}

function withBiases(c: ExpansionContext, parts: readonly [Value, Value, Value]): [Value, Value, Value] {
  const sizes = parts.map((part) => {
    const width = part.shape.at(-1);
    return typeof width === "number" ? width : refuse(c, "the width of a projection is not known");
  });
  const biases = biasParts(c, sizes);
  return parts.map((part, i) => (biases[i] ? c.g.add(part, biases[i]) : part)) as [Value, Value, Value];
}

/** Attention of models whose layers see no padding, as ONNX Runtime's convert_to_packing_mode writes it for CUDA. */
export const packedAttention = {
  /** Inputs: X [count, hidden], W [hidden, q + k + v], bias, places of tokens, running sum of lengths, attention bias. */
  "com.microsoft::PackedAttention": (c) => {
    const { g } = c;
    const product = g.add(g.matMul(required(c, 0), required(c, 1)), required(c, 2));
    const parts = g.split(product, packedSizes(c, product.shape.at(-1)), -1) as [Value, Value, Value];
    return [attendPacked(c, parts)];
  },
  /** Inputs: query [count, hidden] or packed [count, heads, 3, width], key, value, bias, then as above. */
  "com.microsoft::PackedMultiHeadAttention": (c) => [attendPacked(c, projectionsOf(c))],
} satisfies Record<string, Expansion>;
