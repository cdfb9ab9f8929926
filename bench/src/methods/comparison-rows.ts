import { mean } from "../mean.ts";
import type { EntryResult, StoredRun } from "./compare-methods.ts";
import { type Entry, settingOf } from "./entry.ts";

/** One line of the comparison. */
export interface ComparisonRow {
  readonly name: string;
  readonly type: string | null;
  readonly setting: string;
  readonly learningRate: number | null;
  /** On the test split, one per seed. */
  readonly accuracies: readonly number[];
  /** Mean of them; null without any. */
  readonly accuracy: number | null;
  /** Trained values of the adapter, without the classifier. */
  readonly parameters: number;
  readonly fileBytes: number;
  readonly mergeError: number | null;
  /** Time of a training step over that of LoRA. */
  readonly stepRatio: number | null;
  /** Highest resident memory of the process that trained. */
  readonly peakBytes: number | null;
  /** What is wrong with it. */
  readonly mark: "diverged" | "below the frozen encoder" | null;
}

export const BASELINE = "frozen encoder + linear head";

/** The frozen encoder with its fitted classifier. */
export const baselineRow = (accuracies: readonly number[]): ComparisonRow => ({
  ...{ name: BASELINE, type: null, setting: "logistic regression", learningRate: null },
  ...{
    accuracies,
    accuracy: mean(accuracies),
    parameters: 0,
    fileBytes: 0,
    stepRatio: null,
    peakBytes: null,
    mergeError: null,
    mark: null,
  },
});

/**
 * @param stepRatio measured apart from the accuracies.
 * @param baseline accuracy of the frozen encoder.
 */
export function comparisonRow(
  { entry, learningRate, runs }: EntryResult,
  stepRatio: number | null,
  baseline: number,
): ComparisonRow {
  const accuracies = runs.flatMap(({ testAccuracy }) => testAccuracy ?? []);
  const diverged = learningRate === null || runs.some(isDiverged);
  const peaks = runs.flatMap(({ peakBytes }) => peakBytes ?? []);
  const errors = runs.flatMap(({ mergeError }) => mergeError ?? []);
  const accuracy = accuracies.length === 0 ? null : mean(accuracies);
  const isBelow = accuracy !== null && accuracy < baseline;
  return {
    ...about(entry),
    ...{ learningRate, accuracies, accuracy, stepRatio },
    peakBytes: peaks.length === 0 ? null : Math.max(...peaks),
    parameters: runs[0]?.parameters ?? 0,
    fileBytes: runs[0]?.fileBytes ?? 0,
    mergeError: errors.length === 0 ? null : Math.max(...errors),
    mark: diverged ? "diverged" : isBelow ? "below the frozen encoder" : null,
  };
}

const about = (entry: Entry) => ({
  ...{ name: entry.name, type: entry.type },
  setting: `${settingOf(entry)}${entry.budget === undefined ? "" : ` (${entry.budget})`}`,
});

/** Numbers stopped being finite, or the loss rose over the run. */
const isDiverged = ({ diverged, losses: [first, last] }: StoredRun): boolean => diverged !== null || last > 1.2 * first;

export const columns = [
  ...["method", "setting", "learning rate", "test accuracy", "lowest to highest", "trained values"],
  ...["step / LoRA", "peak memory", "file", "merge error"],
] as const;

const percent = (share: number): string => (100 * share).toFixed(1);
const dash = "-";

/** A row as people read it. */
export function cells(row: ComparisonRow): string[] {
  const { accuracies, accuracy, stepRatio, peakBytes, mark } = row;
  return [
    row.name,
    row.setting,
    row.learningRate === null ? dash : String(row.learningRate),
    `${accuracy === null ? dash : `${percent(accuracy)} %`}${mark === null ? "" : ` **${mark}**`}`,
    accuracies.length === 0 ? dash : `${percent(Math.min(...accuracies))} to ${percent(Math.max(...accuracies))}`,
    row.parameters.toLocaleString("en-US"),
    stepRatio === null ? dash : stepRatio.toFixed(2),
    peakBytes === null ? dash : `${Math.round(peakBytes / 2 ** 20)} MB`,
    row.fileBytes === 0 ? dash : `${Math.ceil(row.fileBytes / 1024).toLocaleString("en-US")} KB`,
    row.mergeError === null ? dash : row.mergeError.toExponential(0),
  ];
}

/** Best first; what has no accuracy last. */
export const byAccuracy = (rows: readonly ComparisonRow[]): ComparisonRow[] =>
  [...rows].sort((a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1) || a.parameters - b.parameters);
