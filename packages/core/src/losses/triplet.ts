import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { cosineSimilarity, euclideanDistance } from "./similarity.ts";
import { countOf, total } from "./sums.ts";

/** All [batch, size]; row i of each is one triplet. */
export interface TripletInputs {
  readonly anchors: Value;
  readonly positives: Value;
  readonly negatives: Value;
}

export interface TripletOptions {
  /** How much farther than the positive the negative has to be; default 1. */
  readonly margin?: number;
  /** "euclidean" (default), or "cosine": 1 - cosine. */
  readonly distance?: "euclidean" | "cosine";
}

/**
 * Anchor closer to its positive than to its negative by a margin, equal to `torch.nn.TripletMarginLoss`:
 *   l = max(0, d(anchor, positive) - d(anchor, negative) + margin). Schroff et al. 2015, arXiv 1503.03832.
 * @throws PeftError LOSS_OPTION
 * @example
 * const { sum, weight } = triplet(g, { anchors, positives, negatives }, { distance: "cosine", margin: 0.5 });
 */
export function triplet(
  g: Builder,
  { anchors, positives, negatives }: TripletInputs,
  { margin = 1, distance = "euclidean" }: TripletOptions = {},
): LossParts {
  if (!(margin >= 0)) throw new PeftError("LOSS_OPTION", `Expected a margin of at least 0, received ${margin}.`);
  const excess =
    distance === "euclidean"
      ? g.sub(euclideanDistance(g, anchors, positives), euclideanDistance(g, anchors, negatives))
      : g.sub(cosineSimilarity(g, anchors, negatives), cosineSimilarity(g, anchors, positives));
  const losses = g.relu(g.add(excess, margin));
  return { sum: total(g, losses), weight: countOf(g, losses) };
}
