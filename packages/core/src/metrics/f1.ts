import { PeftError } from "../errors.ts";
import { checkSameLength, confusionMatrix } from "./confusion-matrix.ts";

/** Precision, recall and F1 of one class, or their average; each 0 where its denominator is 0, as scikit-learn does. */
export interface F1Score {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  /** True members; for an average, of all classes. */
  readonly support: number;
}

export interface F1Scores {
  /** By class id. */
  readonly perClass: readonly F1Score[];
  /** Mean over classes that occur in labels or predictions. */
  readonly macro: F1Score;
  /** From the summed counts; equals accuracy when every sample has exactly one label. */
  readonly micro: F1Score;
  /** Mean over classes, weighted by support. */
  readonly weighted: F1Score;
}

/** What the scores of one class are made of. */
export interface ClassCounts {
  truePositives: number;
  predicted: number;
  support: number;
}

const ratio = (a: number, b: number): number => (b === 0 ? 0 : a / b);

/** precision = tp / predicted, recall = tp / support, f1 = 2 tp / (predicted + support). */
const score = ({ truePositives, predicted, support }: ClassCounts): F1Score => ({
  precision: ratio(truePositives, predicted),
  recall: ratio(truePositives, support),
  f1: ratio(2 * truePositives, predicted + support),
  support,
});

/** Averages over per-class counts; shared by single-label, multi-label and entity scores. */
export function f1FromCounts(counts: readonly ClassCounts[]): F1Scores {
  const total: ClassCounts = { truePositives: 0, predicted: 0, support: 0 };
  for (const c of counts) {
    total.truePositives += c.truePositives;
    total.predicted += c.predicted;
    total.support += c.support;
  }
  const perClass = counts.map(score);
  const average = (weights: readonly number[]): F1Score => {
    const sum = weights.reduce((a, b) => a + b, 0);
    const mean = (field: "precision" | "recall" | "f1"): number =>
      ratio(
        perClass.reduce((s, c, i) => s + c[field] * (weights[i] as number), 0),
        sum,
      );
    return { precision: mean("precision"), recall: mean("recall"), f1: mean("f1"), support: total.support };
  };
  return {
    perClass,
    macro: average(counts.map((c) => (c.predicted + c.support > 0 ? 1 : 0))),
    micro: score(total),
    weighted: average(counts.map((c) => c.support)),
  };
}

/**
 * Precision, recall and F1 for one label per sample.
 *
 * @param predictions class ids 0 .. numLabels-1.
 * @param labels true class ids, same length.
 * @throws PeftError METRIC_INPUT as `confusionMatrix`.
 * @example
 * f1Scores([0, 1, 1, 1], [0, 0, 1, 1]).macro.f1; // 0.7333333333333334
 */
export function f1Scores(predictions: ArrayLike<number>, labels: ArrayLike<number>, numLabels?: number): F1Scores {
  const matrix = confusionMatrix(predictions, labels, numLabels);
  return f1FromCounts(
    matrix.map((row, k) => ({
      truePositives: row[k] as number,
      predicted: matrix.reduce((sum, other) => sum + (other[k] as number), 0),
      support: row.reduce((sum, count) => sum + count, 0),
    })),
  );
}

/**
 * Precision, recall and F1 for any number of labels per sample.
 *
 * @param predictions 0 or 1, row-major [samples, numLabels].
 * @param labels 0 or 1, same shape.
 * @throws PeftError METRIC_INPUT for different lengths or a length that numLabels does not divide.
 * @example
 * multiLabelF1([1, 0, 1, 1], [1, 0, 0, 1], 2).micro.f1; // 0.8
 */
export function multiLabelF1(predictions: ArrayLike<number>, labels: ArrayLike<number>, numLabels: number): F1Scores {
  checkSameLength(predictions, labels);
  if (!Number.isInteger(numLabels) || numLabels < 1 || labels.length % numLabels !== 0) {
    throw new PeftError("METRIC_INPUT", `expected rows of ${numLabels} values, received ${labels.length} values.`);
  }
  const counts = Array.from({ length: numLabels }, () => ({ truePositives: 0, predicted: 0, support: 0 }));
  for (let i = 0; i < labels.length; i++) {
    const [predicted, truth] = [predictions[i] as number, labels[i] as number];
    if ((predicted !== 0 && predicted !== 1) || (truth !== 0 && truth !== 1)) {
      throw new PeftError("METRIC_INPUT", `expected 0 or 1, received ${predicted} and ${truth} at position ${i}.`);
    }
    const c = counts[i % numLabels] as ClassCounts;
    c.predicted += predicted;
    c.support += truth;
    c.truePositives += predicted * truth;
  }
  return f1FromCounts(counts);
}
