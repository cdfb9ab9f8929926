import { at, crossEntropy, type Feeds, PeftError } from "@onnx-peft/core";
import type { TagScheme } from "../metrics/entities.ts";
import { entityF1 } from "../metrics/entity-f1.ts";
import { type EncodedText, int64, padBatch } from "./pad-batch.ts";
import { argMax } from "./run-task.ts";
import type { TextTask } from "./task.ts";

/** Label of tokens that do not count: special tokens, and all but a word's first piece. */
export const IGNORED = -100;

/** A tokenised sentence with a label per token. */
export interface TaggedSample extends EncodedText {
  readonly labels: Int32Array;
}

export interface TokenClassificationOptions {
  /** Tag names, in the order of their indices. */
  readonly labels: readonly string[];
  /**
   * How tags become entities; null when they are none (parts of speech). Default by the names: "BIOES" with E-x or S-x,
   * "BIO" with B-x, "lenient" with I-x alone, else null.
   */
  readonly scheme?: TagScheme | null;
}

/** The scheme that tag names show. */
function schemeOf(labels: readonly string[]): TagScheme | null {
  const has = (prefix: RegExp): boolean => labels.some((name) => prefix.test(name));
  if (!has(/^[BIES]-/)) return null;
  return has(/^[ES]-/) ? "BIOES" : has(/^B-/) ? "BIO" : "lenient";
}

/**
 * Token classification, as transformers' `*ForTokenClassification`: cross-entropy over the first piece of every word.
 * Judged by strict entity F1 when the labels are tags of entities, and by accuracy over words.
 * @throws PeftError TASK_OPTION for fewer than two labels, or equal ones.
 * @example
 * const task = tokenClassification({ labels: ["B-PER", "I-PER", "O"] });
 */
export function tokenClassification(options: TokenClassificationOptions): TextTask<TaggedSample> {
  const { labels, scheme = schemeOf(options.labels) } = options;
  if (labels.length < 2 || new Set(labels).size !== labels.length)
    throw new PeftError("TASK_OPTION", `Expected at least two labels that differ, received [${labels.join(", ")}].`);
  return {
    type: "token-classification",
    head: { type: "token-classification", labels: labels.length },
    mainMetric: scheme === null ? "accuracy" : "entityF1",
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
    textsOf: (sample) => [sample],
    problemOf({ inputIds, labels: own }) {
      if (own.length !== inputIds.length) return `it has ${inputIds.length} tokens and ${own.length} labels`;
      const bad = own.find((label) => label !== IGNORED && !(label >= 0 && label < labels.length));
      return bad === undefined ? null : `expected labels from 0 to ${labels.length - 1} or ${IGNORED}, received ${bad}`;
    },
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
      if (scheme === null) return { accuracy: wordAccuracy };
      const scores = entityF1(found, wanted, scheme);
      return { entityF1: scores.f1, precision: scores.precision, recall: scores.recall, accuracy: wordAccuracy };
    },
  };
}
