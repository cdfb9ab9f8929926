import { at, crossEntropy, type Feeds } from "@onnx-peft/core";
import { entityF1 } from "../metrics/entity-f1.ts";
import { type EncodedText, int64, padBatch } from "./pad-batch.ts";
import { argMax } from "./sequence-classification.ts";
import type { TextTask } from "./task.ts";

/** Label of tokens that do not count: special tokens, and all but a word's first piece. */
export const IGNORED = -100;

/** A tokenised sentence with a label per token. */
export interface TaggedSample extends EncodedText {
  readonly labels: Int32Array;
}

/**
 * Token classification, as transformers' `*ForTokenClassification`: cross-entropy over the first piece of every word,
 * judged by strict entity F1 when the labels are BIO tags, and by accuracy over words.
 */
export function tokenClassification(options: { readonly labels: readonly string[] }): TextTask<TaggedSample> {
  const { labels } = options;
  const areEntities = labels.some((name) => /^[BI]-/.test(name));
  return {
    type: "token-classification",
    head: { type: "token-classification", labels: labels.length },
    mainMetric: areEntities ? "entityF1" : "accuracy",
    configFields: {
      id2label: Object.fromEntries(labels.map((name, i) => [String(i), name])),
      label2id: Object.fromEntries(labels.map((name, i) => [name, i])),
    },
    loss({ g, output }) {
      const target = g.input("labels", "int64", [at(output.shape, 0), at(output.shape, 1)]);
      return crossEntropy(g, { logits: output, labels: target }, { ignoreIndex: IGNORED });
    },
    prediction: ({ output }) => output,
    lengthOf: ({ inputIds }) => inputIds.length,
    inputs: padBatch,
    labels(samples, tokens): Feeds {
      const data = new BigInt64Array(samples.length * tokens).fill(BigInt(IGNORED));
      samples.forEach((sample, row) => {
        sample.labels.forEach((label, i) => {
          data[row * tokens + i] = BigInt(label);
        });
      });
      return { labels: int64([samples.length, tokens], data) };
    },
    metrics(samples, predictions) {
      const found: string[][] = new Array(samples.length);
      const wanted: string[][] = new Array(samples.length);
      let [right, total] = [0, 0];
      for (const { indices, output } of predictions) {
        const [tokens, classes] = [output.dims[1] ?? 0, output.dims[2] ?? 0];
        indices.forEach((index, row) => {
          const own = samples[index]?.labels ?? new Int32Array();
          found[index] = [];
          wanted[index] = [];
          own.forEach((label, i) => {
            if (label === IGNORED) return;
            const start = (row * tokens + i) * classes;
            const best = argMax(output.data.subarray(start, start + classes));
            found[index]?.push(labels[best] ?? "");
            wanted[index]?.push(labels[label] ?? "");
            total++;
            if (best === label) right++;
          });
        });
      }
      const wordAccuracy = right / Math.max(1, total);
      if (!areEntities) return { accuracy: wordAccuracy };
      const scores = entityF1(found, wanted);
      return { entityF1: scores.f1, precision: scores.precision, recall: scores.recall, accuracy: wordAccuracy };
    },
  };
}
