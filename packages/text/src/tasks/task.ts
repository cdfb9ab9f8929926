import type { Builder, Feeds, LossParts, Metrics, RuntimeTensor, Value } from "@onnx-peft/core";
import type { Head } from "../models/encoder.ts";
import type { EncodedText } from "./pad-batch.ts";

/** What the forward graph of an encoder offers a task. */
export interface TaskGraph {
  readonly g: Builder;
  /** `logits`, or hidden states [batch, sequence, hidden] for tasks without a head. */
  readonly output: Value;
  /** [batch, sequence], 1 for real tokens. */
  readonly attentionMask: Value;
}

/** One kind of task: what stands on the encoder, what is minimised, how samples are fed and judged. */
export interface TextTask<Sample> {
  readonly type: "sequence-classification" | "token-classification" | "sentence-embedding";
  readonly head: Head;
  /** Adds the label inputs and the loss. */
  loss(graph: TaskGraph): LossParts;
  /** What predictions are made from: logits, or sentence embeddings. */
  prediction(graph: TaskGraph): Value;
  /** Tokens of a sample, over all of its texts. */
  lengthOf(sample: Sample): number;
  /** The texts of a sample, each of which becomes one row of the encoder's batch. */
  textsOf(sample: Sample): readonly EncodedText[];
  /** Why a sample cannot be trained on or judged, or null. Labels are checked here: an engine would read other memory. */
  problemOf(sample: Sample): string | null;
  /** Feeds of the encoder. */
  inputs(samples: readonly Sample[], padId: number): Feeds & { readonly input_ids: RuntimeTensor };
  /** Feeds of the loss, for samples padded to `tokens`. */
  labels(samples: readonly Sample[], tokens: number): Feeds;
  /** Metrics over a whole data set, from the predictions of all of its batches, in any order. */
  metrics(samples: readonly Sample[], predictions: readonly BatchPrediction[]): Metrics;
  /** Metric that picks the best checkpoint; larger is better. */
  readonly mainMetric: string;
  /** Fields for the result's config.json (label names, problem type). */
  readonly configFields: Readonly<Record<string, unknown>>;
}

/** The prediction tensor of one batch and which samples it holds, in order. */
export interface BatchPrediction {
  readonly indices: readonly number[];
  readonly output: { readonly dims: readonly number[]; readonly data: Float32Array };
}
