import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { normalizeRows } from "./similarity.ts";
import { countOf, total } from "./sums.ts";

export interface MultipleNegativesInputs {
  /** [batch, size] */
  readonly anchors: Value;
  /** [batch, size]: row i belongs to anchor i, and every other row is a negative of it. */
  readonly positives: Value;
  /** [any, size]: further negatives for all anchors. */
  readonly hardNegatives?: Value;
}

export interface MultipleNegativesOptions {
  /** Scores are divided by it; default 0.05 (a scale of 20). */
  readonly temperature?: number;
  /** Scores are cosines (default) or plain dot products. */
  readonly similarity?: "cosine" | "dot";
  /** Also choose the anchor for each positive, and take the mean of both losses; default false. */
  readonly symmetric?: boolean;
}

/**
 * In-batch negatives (InfoNCE): cross-entropy of choosing anchor i's positive among all positives and hard negatives.
 * Oord et al. 2018, arXiv 1807.03748; Henderson et al. 2017, arXiv 1705.00652. Equal to sentence-transformers'
 * MultipleNegativesRankingLoss, and to its symmetric variant. Samples depend on each other.
 * @throws PeftError LOSS_OPTION
 * @example
 * const { sum, weight } = multipleNegatives(g, { anchors, positives }, { temperature: 0.05, symmetric: true });
 */
export function multipleNegatives(
  g: Builder,
  { anchors, positives, hardNegatives }: MultipleNegativesInputs,
  { temperature = 0.05, similarity = "cosine", symmetric = false }: MultipleNegativesOptions = {},
): LossParts {
  if (!(temperature > 0)) {
    throw new PeftError("LOSS_OPTION", `Expected a temperature above 0, received ${temperature}.`);
  }
  const rows = (x: Value): Value => (similarity === "cosine" ? normalizeRows(g, x) : x);
  const [a, p] = [rows(anchors), rows(positives)];
  const scores = (x: Value, y: Value): Value => g.gemm(x, y, null, { transB: true, alpha: 1 / temperature });
  const candidates = hardNegatives ? g.concat([p, rows(hardNegatives)], 0) : p;
  const forward = ownColumn(g, g.logSoftmax(scores(a, candidates)));
  const chosen = symmetric ? g.mul(g.add(forward, ownColumn(g, g.logSoftmax(scores(p, a)))), 0.5) : forward;
  return { sum: g.neg(total(g, chosen)), weight: countOf(g, forward), couplesSamples: true };
}

/** Element i of row i: [batch, candidates] to [batch, 1]. */
function ownColumn(g: Builder, x: Value): Value {
  const size = g.squeeze(g.shapeTensor([at(x.shape, 0)]), [0]);
  const [index] = g.op("Range", [g.constant("int64", 0), size, g.constant("int64", 1)]);
  return g.gatherElements(x, g.unsqueeze(index as Value, [1]), 1);
}
