import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { mergeHeads, reshapeTo } from "./heads.ts";

export interface AttentionParts {
  /** [batch, heads, tokens, width]. */
  readonly q: Value;
  /** [batch, heads or fewer, keys, width]. */
  readonly k: Value;
  /** [batch, heads or fewer, keys, value width]. */
  readonly v: Value;
  readonly scale: number;
  /** Added to the scores one after the other; each broadcasts to [batch, heads, tokens, keys]. */
  readonly biases: readonly Value[];
  /** Scores become softcap * tanh(scores / softcap) before biases are added; 0 is off. */
  readonly softcap?: number;
  /** Scores of a key without a value, one per head: [heads]; 0 for "smooth" softmax. */
  readonly sink?: Value | 0 | null;
}

/**
 * Attention over given heads: softmax(scale * Q·Kᵀ + biases)·V with heads merged, [batch, tokens, heads * value width].
 * Where several heads of Q share one of K and V, their tokens are stacked as rows of one product: nothing is repeated in
 * memory, and the gradients of K and V sum over the group inside the product.
 */
export function attend(g: Builder, parts: AttentionParts): Value {
  const { q, k, v, scale, biases, softcap = 0 } = parts;
  const [heads, shared] = [q.shape[1] as number, k.shape[1] as number];
  const stacked = (x: Value): Value => (heads === shared ? x : reshapeTo(g, x, [0, shared, -1, 0]));
  const apart = (x: Value): Value => (heads === shared ? x : reshapeTo(g, x, [0, heads, -1, 0]));
  let scores = apart(g.fusedMatMul(stacked(q), k, { transB: true, alpha: scale }));
  if (softcap > 0) scores = g.mul(g.tanh(g.div(scores, softcap)), softcap);
  for (const bias of biases) scores = g.add(scores, bias);
  const sink = parts.sink ?? null;
  const probabilities = sink === null ? g.softmax(scores) : softmaxWithSink(g, scores, sink);
  return mergeHeads(g, apart(g.matMul(stacked(probabilities), v)));
}

/** exp(s) / (exp(sink) + sum exp(s)): softmax over one more key, which is then left out. */
function softmaxWithSink(g: Builder, scores: Value, sink: Value | 0): Value {
  const [batch, heads, rows] = scores.shape;
  const zeros = g.filled([batch ?? 1, heads ?? 1, rows ?? 1, 1], 0, scores.type);
  const column = sink === 0 ? zeros : g.add(zeros, reshapeTo(g, g.cast(sink, scores.type), [1, -1, 1, 1]));
  return g.slice(g.softmax(g.concat([scores, column], 3)), [0], [-1], [3]);
}
