import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { cosineSimilarity } from "./similarity.ts";
import { countOf, total } from "./sums.ts";

export interface CosineEmbeddingInputs {
  /** [batch, size] */
  readonly first: Value;
  /** [batch, size] */
  readonly second: Value;
  /** [batch], float: 1 for pairs that belong together, -1 for others. */
  readonly labels: Value;
}

export interface CosineEmbeddingOptions {
  /** Cosine below which a pair that does not belong together costs nothing; -1 to 1, default 0. */
  readonly margin?: number;
}

/**
 * Pairs pulled together or pushed apart by angle, equal to `torch.nn.CosineEmbeddingLoss`:
 *   l = 1 - cos for label 1, max(0, cos - margin) for label -1.
 * @example
 * const { sum, weight } = cosineEmbedding(g, { first, second, labels }, { margin: 0.5 });
 */
export function cosineEmbedding(
  g: Builder,
  { first, second, labels }: CosineEmbeddingInputs,
  { margin = 0 }: CosineEmbeddingOptions = {},
): LossParts {
  const cosine = cosineSimilarity(g, first, second);
  const together = g.mul(g.add(labels, 1), 0.5);
  const close = g.mul(together, g.sub(1, cosine));
  const apart = g.mul(g.sub(1, together), g.relu(g.sub(cosine, margin)));
  return { sum: total(g, g.add(close, apart)), weight: countOf(g, cosine) };
}
