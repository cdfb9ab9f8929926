import type { AdaptedGraph } from "../adapters/inject.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import type { Value } from "../onnx/ir.ts";

/** A term of the training loss beside that of the task, for any adapter method: a function of the adapted model. */
export interface Penalty {
  /** Begins the names of its nodes. */
  readonly name: string;
  /** A scalar that is added to the mean loss of every batch, or null for none: the graph then stays as it is. */
  build(adapted: AdaptedGraph): Value | null;
}

/**
 * Adds terms to a loss. The mean loss of a batch is the sum of its micro-batches' sums over their total weight, so a term that
 * counts once for the batch is added to each as weight · term: of a term that depends on the samples, micro-batches count by
 * their share of the loss's weight (of the samples, for losses that weigh every sample with 1).
 */
export function withPenalties(adapted: AdaptedGraph, loss: LossParts, penalties: readonly Penalty[]): LossParts {
  const { g } = adapted;
  const terms = penalties.flatMap(({ name, build }) => g.scoped(name, () => build(adapted)) ?? []);
  const [first, ...more] = terms;
  if (!first) return loss;
  const term = more.reduce((sum, other) => g.add(sum, other), first);
  return { ...loss, sum: g.add(loss.sum, g.mul(loss.weight, term)) };
}
