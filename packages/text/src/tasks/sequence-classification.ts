import {
  accuracy,
  at,
  binaryCrossEntropy,
  crossEntropy,
  type Feeds,
  f1Scores,
  type Metrics,
  matthews,
  meanSquaredError,
  multiLabelF1,
  PeftError,
  pearson,
  spearman,
} from "@onnx-peft/core";
import { type EncodedText, float32, int64, padBatch } from "./pad-batch.ts";
import { argMax, predictionRows } from "./run-task.ts";
import type { BatchPrediction, TextTask } from "./task.ts";

/** A text with its target: a class index, a 0/1 list over all classes, or a number. */
export interface ClassificationSample extends EncodedText {
  readonly label: number | readonly number[];
}

export interface SequenceClassificationOptions {
  /** Class names, in the order of their indices; one name for regression. */
  readonly labels: readonly string[];
  /** "single": one class a text. "multi": any number of them. "regression": a real number. Default "single". */
  readonly problem?: "single" | "multi" | "regression";
  /** Share of the target that is spread over all classes, from 0 to 1; for "single". */
  readonly labelSmoothing?: number;
  /** One weight per class, for classes of unequal size; for "single". */
  readonly classWeights?: readonly number[];
}

const problemTypes = {
  single: "single_label_classification",
  multi: "multi_label_classification",
  regression: "regression",
} as const;

/**
 * Sequence classification, as transformers' `*ForSequenceClassification`: cross-entropy (single), binary cross-entropy
 * (multi) or mean squared error (regression) over the logits of a text. Judged by accuracy, F1 and Matthews' correlation, by
 * F1 over all decisions at probability 0.5, or by Spearman's and Pearson's correlation. (transformers.js has no regression
 * pipeline: it shows the softmax of one logit, 1. Read `logits` of the saved model instead.)
 * @throws PeftError TASK_OPTION for fewer than two classes, equal names, or options that do not belong to the problem.
 * @example
 * const task = sequenceClassification({ labels: ["ham", "spam"], classWeights: [1, 3] });
 */
export function sequenceClassification(options: SequenceClassificationOptions): TextTask<ClassificationSample> {
  const { labels, problem = "single" } = options;
  if (problem === "regression" ? labels.length !== 1 : labels.length < 2) {
    const expected = problem === "regression" ? "one label, the name of the number" : "at least two labels";
    throw new PeftError("TASK_OPTION", `Expected ${expected}, received ${labels.length}.`);
  }
  if (new Set(labels).size !== labels.length) throw new PeftError("TASK_OPTION", "Expected labels that differ.");
  if (problem !== "single" && (options.labelSmoothing !== undefined || options.classWeights !== undefined)) {
    throw new PeftError("TASK_OPTION", `labelSmoothing and classWeights belong to "single", received "${problem}".`);
  }
  const classes = problem === "regression" ? 1 : labels.length;
  return {
    type: "sequence-classification",
    head: { type: "sequence-classification", labels: classes },
    mainMetric: problem === "regression" ? "spearman" : problem === "multi" ? "microF1" : "accuracy",
    configFields: {
      problem_type: problemTypes[problem],
      id2label: Object.fromEntries(labels.map((name, i) => [String(i), name])),
      label2id: Object.fromEntries(labels.map((name, i) => [name, i])),
    },
    loss({ g, output }) {
      if (problem === "single") {
        return crossEntropy(
          g,
          { logits: output, labels: g.input("labels", "int64", [at(output.shape, 0)]) },
          {
            ...(options.labelSmoothing === undefined ? {} : { labelSmoothing: options.labelSmoothing }),
            ...(options.classWeights === undefined ? {} : { classWeights: options.classWeights }),
          },
        );
      }
      const target = g.input("labels", "float32", output.shape);
      return problem === "multi"
        ? binaryCrossEntropy(g, { logits: output, labels: target })
        : meanSquaredError(g, { predictions: output, labels: target });
    },
    prediction: ({ output }) => output,
    lengthOf: ({ inputIds }) => inputIds.length,
    textsOf: (sample) => [sample],
    problemOf: ({ label }) => labelProblem(problem, classes, label),
    inputs: padBatch,
    labels(samples): Feeds {
      if (problem === "single")
        return {
          labels: int64(
            [samples.length],
            BigInt64Array.from(samples, (s) => BigInt(Number(s.label))),
          ),
        };
      return { labels: float32([samples.length, classes], Float32Array.from(samples.flatMap((s) => s.label))) };
    },
    metrics: (samples, predictions) => score(problem, classes, samples, predictions),
  };
}

/** Labels index the logits, so a wrong one (-1 for a class that was not found) would be read as another class. */
function labelProblem(
  problem: "single" | "multi" | "regression",
  classes: number,
  label: number | readonly number[],
): string | null {
  const shown = JSON.stringify(label);
  if (problem === "regression")
    return typeof label === "number" && Number.isFinite(label) ? null : `expected a number as label, received ${shown}`;
  if (problem === "multi") {
    const fits = typeof label !== "number" && label.length === classes && label.every((v) => v === 0 || v === 1);
    return fits ? null : `expected a label of ${classes} zeros and ones, received ${shown}`;
  }
  const fits = typeof label === "number" && Number.isInteger(label) && label >= 0 && label < classes;
  return fits ? null : `expected a whole label from 0 to ${classes - 1}, received ${shown}`;
}

function score(
  problem: "single" | "multi" | "regression",
  classes: number,
  samples: readonly ClassificationSample[],
  predictions: readonly BatchPrediction[],
): Metrics {
  const rows = predictionRows(predictions, samples.length);
  if (problem === "regression") {
    const [found, wanted] = [rows.map((r) => r[0] ?? Number.NaN), samples.map((s) => Number(s.label))];
    const squared = found.reduce((sum, v, i) => sum + (v - (wanted[i] ?? 0)) ** 2, 0);
    return {
      spearman: spearman(found, wanted),
      pearson: pearson(found, wanted),
      meanSquaredError: squared / found.length,
    };
  }
  if (problem === "multi") {
    const found = rows.flatMap((r) => Array.from(r, (v) => (v > 0 ? 1 : 0)));
    const scores = multiLabelF1(
      found,
      samples.flatMap((s) => s.label),
      classes,
    );
    return { microF1: scores.micro.f1, macroF1: scores.macro.f1 };
  }
  const [found, wanted] = [rows.map(argMax), samples.map((s) => Number(s.label))];
  const scores = f1Scores(found, wanted, classes);
  return {
    accuracy: accuracy(found, wanted),
    macroF1: scores.macro.f1,
    microF1: scores.micro.f1,
    matthews: matthews(found, wanted),
  };
}
