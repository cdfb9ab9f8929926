import { z } from "zod";

/** When a run stops because its metric no longer improves. */
export const earlyStoppingConfig = z.strictObject({
  /** Evaluations without improvement after which the run stops. */
  patience: z.int().positive(),
  /** Smallest change that counts as an improvement. */
  minDelta: z.number().min(0).default(0),
  /** Whether a smaller ("min", losses) or a larger ("max", accuracies) value is better. */
  mode: z.enum(["min", "max"]).default("min"),
});
export type EarlyStoppingConfig = z.output<typeof earlyStoppingConfig>;

/** Plain JSON, part of a checkpoint. */
export interface EarlyStoppingState {
  /** Best value so far; null before the first finite one. */
  best: number | null;
  bestStep: number | null;
  /** Evaluations since the best one. */
  withoutImprovement: number;
}

/** The state before any evaluation. */
export const earlyStoppingStart: EarlyStoppingState = { best: null, bestStep: null, withoutImprovement: 0 };

/**
 * Takes one evaluation into account; pure. NaN and infinite values are never an improvement.
 *
 * @returns the next state, whether this evaluation is the best so far (save it), and whether to stop.
 * @example
 * const { state, improved, stop } = earlyStoppingNext(previous, { step: 200, value: 0.91 }, { patience: 3, minDelta: 0, mode: "max" });
 */
export function earlyStoppingNext(
  previous: EarlyStoppingState,
  { step, value }: { step: number; value: number },
  { patience, minDelta, mode }: EarlyStoppingConfig,
): { state: EarlyStoppingState; improved: boolean; stop: boolean } {
  const gain =
    previous.best === null ? Number.POSITIVE_INFINITY : mode === "max" ? value - previous.best : previous.best - value;
  const improved = Number.isFinite(value) && gain > minDelta;
  if (improved) return { state: { best: value, bestStep: step, withoutImprovement: 0 }, improved, stop: false };
  const withoutImprovement = previous.withoutImprovement + 1;
  return { state: { ...previous, withoutImprovement }, improved, stop: withoutImprovement >= patience };
}
