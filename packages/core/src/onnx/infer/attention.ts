import { addDims, divideExactly, mulDims } from "../dims.ts";
import type { Dim, Value } from "../ir.ts";
import type { Infer, InferContext } from "./context.ts";
import { at, fail, input, intAttribute } from "./context.ts";

/** [batch, heads, tokens, size] of a query, key or value that has the heads as an axis or folded into the last one. */
function heads(c: InferContext, x: Value, attribute: string): readonly [Dim, Dim, Dim, Dim] {
  if (x.shape.length === 4) return [at(x.shape, 0), at(x.shape, 1), at(x.shape, 2), at(x.shape, 3)];
  if (x.shape.length !== 3) return fail(c, `expected 3 or 4 axes, "${x.name}" has ${x.shape.length}.`);
  const count = intAttribute(c.node, attribute, 0);
  if (count <= 0) return fail(c, `inputs with three axes need ${attribute}.`);
  return [at(x.shape, 0), count, at(x.shape, 1), divideExactly(at(x.shape, 2), count) ?? c.fresh()];
}

/** Q, K, V [batch, tokens, heads * size] or [batch, heads, tokens, size]; Y as Q with V's size; present keys and values. */
const attention: Infer = (c) => {
  const [q, k, v] = [input(c, 0), input(c, 1), input(c, 2)];
  const [batch, queryHeads, queries] = heads(c, q, "q_num_heads");
  const [, keyHeads, keys, size] = heads(c, k, "kv_num_heads");
  const [, , , valueSize] = heads(c, v, "kv_num_heads");
  const past = c.inputs[4];
  const total = past ? addDims(at(past.shape, 2), keys) : keys;
  const { type } = q;
  const shape =
    q.shape.length === 4 ? [batch, queryHeads, queries, valueSize] : [batch, queries, mulDims(queryHeads, valueSize)];
  return [
    { type, shape },
    { type: k.type, shape: [batch, keyHeads, total, size] },
    { type: v.type, shape: [batch, keyHeads, total, valueSize] },
    { type, shape: [batch, queryHeads, queries, total] },
  ];
};

/** Attention and its position embedding, as ONNX has them from opset 23. */
export const attentions = {
  Attention: attention,
  RotaryEmbedding: (c) => [{ type: input(c, 0).type, shape: input(c, 0).shape }],
} satisfies Record<string, Infer>;
