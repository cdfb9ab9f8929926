import { PeftError } from "../errors.ts";

/** Scores of queries against candidates, and which candidate belongs to each query. */
export interface RetrievalScores {
  /** Row-major [queries, candidates]; higher is nearer. */
  readonly scores: ArrayLike<number>;
  /** Index of the right candidate of each query. */
  readonly targets: ArrayLike<number>;
}

/**
 * Rank of the right candidate of every query, from 1. Candidates with the same score count as better: a model that gives one
 * score to all is not rewarded.
 *
 * @throws PeftError METRIC_INPUT for no queries, ragged scores, NaN, or targets out of range.
 * @example
 * targetRanks({ scores: [0.9, 0.1, 0.8, 0.2], targets: [0, 1] }); // Uint32Array [1, 2]
 */
export function targetRanks({ scores, targets }: RetrievalScores): Uint32Array {
  const candidates = scores.length / targets.length;
  if (targets.length === 0 || !Number.isInteger(candidates) || candidates === 0) {
    throw new PeftError(
      "METRIC_INPUT",
      `expected [queries, candidates], received ${scores.length} scores for ${targets.length} queries.`,
    );
  }
  const ranks = new Uint32Array(targets.length);
  for (let query = 0; query < targets.length; query++) {
    const target = targets[query] as number;
    if (!Number.isInteger(target) || target < 0 || target >= candidates) {
      throw new PeftError(
        "METRIC_INPUT",
        `expected a target in [0, ${candidates}), received ${target} at query ${query}.`,
      );
    }
    const start = query * candidates;
    const own = scores[start + target] as number;
    let rank = 0;
    for (let i = start; i < start + candidates; i++) {
      const score = scores[i] as number;
      if (Number.isNaN(score)) throw new PeftError("METRIC_INPUT", `expected numbers, received NaN at query ${query}.`);
      if (score >= own) rank++; // counts the target itself
    }
    ranks[query] = rank;
  }
  return ranks;
}

/**
 * Share of queries whose right candidate is among the k nearest.
 *
 * @throws PeftError METRIC_INPUT as `targetRanks`, and for k below 1.
 * @example
 * recallAtK({ scores: [0.9, 0.1, 0.8, 0.2], targets: [0, 1] }, 1); // 0.5
 */
export function recallAtK(retrieval: RetrievalScores, k: number): number {
  if (!Number.isInteger(k) || k < 1) throw new PeftError("METRIC_INPUT", `expected a whole k >= 1, received ${k}.`);
  const ranks = targetRanks(retrieval);
  return ranks.reduce((hits, rank) => hits + (rank <= k ? 1 : 0), 0) / ranks.length;
}

/**
 * Mean of 1 / rank of the right candidate.
 *
 * @throws PeftError METRIC_INPUT as `targetRanks`.
 * @example
 * meanReciprocalRank({ scores: [0.9, 0.1, 0.8, 0.2], targets: [0, 1] }); // 0.75
 */
export function meanReciprocalRank(retrieval: RetrievalScores): number {
  const ranks = targetRanks(retrieval);
  return ranks.reduce((sum, rank) => sum + 1 / rank, 0) / ranks.length;
}
