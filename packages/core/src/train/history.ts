import { PeftError } from "../errors.ts";
import type { MetricsRecord } from "./metrics-log.ts";
import type { Metrics } from "./training-run.ts";

/** What a run has measured so far. */
export interface History {
  /** One per step. */
  readonly losses: number[];
  readonly evaluations: { readonly step: number; readonly metrics: Metrics }[];
}

/** Metrics of evaluations carry this prefix in the log. */
const EVALUATION = "eval.";

/** The line of one step. */
export const stepRecord = (values: {
  step: number;
  epoch: number;
  loss: number;
  learningRate: number;
  gradientNorm: number;
}): MetricsRecord => ({ ...values });

/** The line of one evaluation. */
export const evaluationRecord = (step: number, epoch: number, metrics: Metrics): MetricsRecord => ({
  step,
  epoch,
  ...Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`${EVALUATION}${name}`, value])),
});

/**
 * The history up to a step, out of the lines of a log.
 * @throws PeftError METRICS_LOG_INVALID when a step is missing.
 */
export function historyOf(records: readonly MetricsRecord[], lastStep: number, path: string): History {
  const history: History = { losses: [], evaluations: [] };
  for (const { step, epoch: _epoch, ...values } of records) {
    if (step > lastStep) break;
    const { loss } = values;
    if (typeof loss === "number") history.losses.push(loss);
    const metrics = Object.entries(values).flatMap(([name, value]) =>
      name.startsWith(EVALUATION) && typeof value === "number" ? [[name.slice(EVALUATION.length), value] as const] : [],
    );
    if (metrics.length > 0) history.evaluations.push({ step, metrics: Object.fromEntries(metrics) });
  }
  if (history.losses.length === lastStep) return history;
  throw new PeftError(
    "METRICS_LOG_INVALID",
    `expected the losses of ${lastStep} steps, received ${history.losses.length} in ${path}.`,
    { hint: "The checkpoint and this file belong together: restore it, or delete the checkpoint to start again." },
  );
}
