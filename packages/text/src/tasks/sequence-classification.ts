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
import type { BatchPrediction, TextTask } from "./task.ts";

/** A text with its target: a class index, a 0/1 list over all classes, or a number. */
export interface ClassificationSample extends EncodedText {
  readonly label: number | readonly number[];
}

export interface SequenceClassificationOptions {
  /** Class names, in the order of their indices; one name for regression. */
  readonly labels: readonly string[];
  /** "single": one class a text. "multi": any number. "regression": a real number. Default "single". */
  readonly problem?: "single" | "multi" | "regression";
  readonly labelSmoothing?: number;
  readonly classWeights?: readonly number[];
}

const problemTypes = {
  single: "single_label_classification",
  multi: "multi_label_classification",
  regression: "regression",
} as const;

/**
 * Sequence classification, as transformers' `*ForSequenceClassification`: cross-entropy (single), binary cross-entropy
 * (multi) or mean squared error (regression) over the logits of a text.
 * @throws PeftError TASK_OPTION for fewer than two classes.
 */
export function sequenceClassification(options: SequenceClassificationOptions): TextTask<ClassificationSample> {
  const { labels, problem = "single" } = options;
  if (problem !== "regression" && labels.length < 2) {
    throw new PeftError("TASK_OPTION", `Expected at least two labels, received ${labels.length}.`);
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

function score(
  problem: "single" | "multi" | "regression",
  classes: number,
  samples: readonly ClassificationSample[],
  predictions: readonly BatchPrediction[],
): Metrics {
  const rows = rowsOf(predictions, samples.length);
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

/** Rows of all batches, in the order of the samples. */
export function rowsOf(predictions: readonly BatchPrediction[], count: number): Float32Array[] {
  const rows: Float32Array[] = new Array(count);
  for (const { indices, output } of predictions) {
    const width = output.data.length / indices.length;
    indices.forEach((index, row) => {
      rows[index] = output.data.slice(row * width, (row + 1) * width);
    });
  }
  return rows;
}

/** Index of the largest value; the first of equal ones. */
export function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
