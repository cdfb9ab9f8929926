import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { addDims, mulDims, subDims } from "../onnx/dims.ts";
import { at, floatAttribute, intAttribute, typeAttribute } from "../onnx/infer/context.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type DefinitionContext, definition, rule } from "./rule.ts";

const refuse = (c: DefinitionContext, what: string): never => {
  throw new PeftError("UNSUPPORTED_ATTRIBUTE", `${c.node.op} "${c.node.name}" cannot be trained through: ${what}.`, {
    hint: "Choose target modules after this node.",
    details: { node: c.node.name },
  });
};

const known = (c: DefinitionContext, dim: Dim, what: string): number =>
  typeof dim === "number" ? dim : refuse(c, `${what} must be known, received "${dim}"`);

/** [batch, tokens, heads * size] as [batch, heads, tokens, size]; four axes stay. */
function splitHeads(c: DefinitionContext, x: Value, count: number): Value {
  if (x.shape.length === 4) return x;
  const { g } = c;
  const size = known(c, at(x.shape, 2), "the hidden size") / count;
  return g.transpose(g.reshape(x, [at(x.shape, 0), at(x.shape, 1), count, size], x), [0, 2, 1, 3]);
}

/** Low enough to vanish behind a softmax, finite so that a row of nothing else is no NaN. */
const lowest = (type: Value["type"]): number => (type === "float16" ? -65504 : -1e30);

/** 0..size-1 as a vector. */
function numbers(g: Builder, size: Dim): Value {
  const limit = g.squeeze(g.shapeTensor([size]), [0]);
  return g.op("Range", [g.constant("int64", 0), limit, g.constant("int64", 1)])[0] as Value;
}

interface Sizes {
  readonly queries: Dim;
  readonly keys: Dim;
  readonly total: Dim;
}

/** Which keys a query may look at, broadcast to [batch, heads, queries, keys]; null: all. */
function allowedKeys(c: DefinitionContext, { queries, keys, total }: Sizes): Value | null {
  const { g } = c;
  const [mask, valid] = [c.inputs[3] ?? null, c.inputs[6] ?? null];
  const parts: Value[] = mask?.type === "bool" ? [mask] : [];
  const columns = numbers(g, total);
  const lengths = valid ? g.reshape(g.cast(valid, "int64"), [at(valid.shape, 0), 1, 1, 1]) : null;
  if (lengths) parts.push(g.less(columns, lengths));
  if (intAttribute(c.node, "is_causal", 0) !== 0) {
    const rows = g.unsqueeze(numbers(g, queries), [1]);
    const before = lengths ? g.sub(lengths, g.shapeTensor([queries])) : g.shapeTensor([subDims(total, keys)]);
    parts.push(g.less(columns, g.add(g.add(rows, before), 1)));
  }
  const [first, ...rest] = parts;
  return first ? rest.reduce((a, b) => g.and(a, b), first) : null;
}

/** An additive mask whose last axis is shorter than the keys shuts out the rest of them. */
function fullWidth(c: DefinitionContext, mask: Value, total: Dim): Value {
  const width = at(mask.shape, -1);
  if (width === total || width === 1 || typeof width !== "number" || typeof total !== "number") return mask;
  const pads = [
    ...mask.shape.map(() => 0),
    ...mask.shape.map((_, i) => (i === mask.shape.length - 1 ? total - width : 0)),
  ];
  if (mask.type !== "bool")
    return c.g.op("Pad", [mask, c.g.ints(pads), c.g.constant(mask.type, lowest(mask.type))])[0] as Value;
  const padded = c.g.op("Pad", [c.g.cast(mask, "int32"), c.g.ints(pads)])[0] as Value;
  return c.g.cast(padded, "bool");
}

/**
 * Y = softmax(cap(scale Q·Kᵀ) + mask)·V per head, with cap(s) = softcap tanh(s / softcap), by its products: keys and values
 * behind the past ones; a key head serves q_num_heads / kv_num_heads query heads in a row, which are seen as rows of one
 * product, so that no key is copied. A query that may look at nothing gives 0. Output 3 is, by qk_matmul_output_mode, the
 * scores as they are (0), capped (1), masked too (2), or the softmax (3).
 */
function attention(c: DefinitionContext): (Value | null)[] {
  const { g, node } = c;
  const given = [inputAt(c, 0), inputAt(c, 1), inputAt(c, 2)] as const;
  const headsOf = (x: Value, attribute: string): number =>
    x.shape.length === 4 ? known(c, at(x.shape, 1), "the number of heads") : intAttribute(node, attribute, 0);
  const [queryHeads, keyHeads] = [headsOf(given[0], "q_num_heads"), headsOf(given[1], "kv_num_heads")];
  const q = splitHeads(c, given[0], queryHeads);
  const [ownKeys, ownValues] = [splitHeads(c, given[1], keyHeads), splitHeads(c, given[2], keyHeads)];
  const join = (past: Value | null | undefined, own: Value): Value => (past ? g.concat([past, own], 2) : own);
  const [k, v] = [join(c.inputs[4], ownKeys), join(c.inputs[5], ownValues)];
  const [batch, queries] = [at(q.shape, 0), at(q.shape, 2)];
  const past = c.inputs[4];
  const keys = at(ownKeys.shape, 2);
  const total = past ? addDims(at(past.shape, 2), keys) : keys;
  const group = queryHeads / keyHeads;
  const grouped = (x: Value, last: Dim): Value =>
    group === 1 ? x : g.reshape(x, [batch, keyHeads, mulDims(group, queries), last], x);
  const perHead = (x: Value, last: Dim): Value =>
    group === 1 ? x : g.reshape(x, [batch, queryHeads, queries, last], x);

  const size = known(c, at(q.shape, 3), "the head size");
  const scale = floatAttribute(node, "scale", 0) || 1 / Math.sqrt(size);
  const scores = perHead(g.fusedMatMul(grouped(q, size), k, { transB: true, alpha: scale }), total);
  const cap = floatAttribute(node, "softcap", 0);
  const capped = cap === 0 ? scores : g.mul(g.tanh(g.div(scores, cap)), cap);
  const mask = c.inputs[3] ? fullWidth(c, inputAt(c, 3), total) : null;
  const withMask: DefinitionContext = mask ? { ...c, inputs: c.inputs.map((x, i) => (i === 3 ? mask : x)) } : c;
  const allowed = allowedKeys(withMask, { queries, keys, total });
  const biased = mask && mask.type !== "bool" ? g.add(capped, mask) : capped;
  const open = allowed ? g.cast(allowed, scores.type) : null;
  const masked = open ? g.add(biased, g.mul(g.sub(1, open), lowest(scores.type))) : biased;
  const precision = typeAttribute(node, "softmax_precision", scores.type);
  const weights = g.cast(g.softmax(g.cast(masked, precision)), scores.type);
  const probabilities = open ? g.mul(weights, g.reduceMax(open, [-1])) : weights;
  const mixed = g.matMul(grouped(probabilities, total), v);
  const y = perHead(mixed, at(v.shape, 3));
  const shown = [scores, capped, masked, probabilities][intAttribute(node, "qk_matmul_output_mode", 0)] ?? null;
  return [given[0].shape.length === 4 ? y : joinHeads(g, y), k, v, shown];
}

/** [batch, heads, tokens, size] as [batch, tokens, heads * size]. */
const joinHeads = (g: Builder, y: Value): Value =>
  g.reshape(g.transpose(y, [0, 2, 1, 3]), [at(y.shape, 0), at(y.shape, 2), mulDims(at(y.shape, 1), at(y.shape, 3))], y);

/** Attention and its position embedding. */
export const attentions = {
  Attention: definition([23, 24], attention),
  /**
   * Pairs (x1, x2) of every head turned by an angle: (cos x1 - sin x2, sin x1 + cos x2), the rest of the head as it is. dX
   * is dY turned back: the same operator with -sin. Saves the caches only. The angles themselves have no gradient.
   */
  RotaryEmbedding: rule([23, 24], (c) => {
    if (c.needs[1] || c.needs[2]) refuse(c, "its angles are trained");
    const { g, node } = c;
    const inputs = [dOutput(c), inputAt(c, 1), g.neg(inputAt(c, 2)), c.inputs[3] ?? null];
    return [g.op("RotaryEmbedding", inputs, node.attributes)[0] as Value];
  }),
};
