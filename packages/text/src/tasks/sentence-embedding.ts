import {
  type Builder,
  type Feeds,
  type Metrics,
  meanSquaredError,
  multipleNegatives,
  PeftError,
  spearman,
  targetRanks,
  triplet,
  type Value,
} from "@onnx-peft/core";
import { type EncodedText, float32, padBatch } from "./pad-batch.ts";
import type { BatchPrediction, TaskGraph, TextTask } from "./task.ts";

/** Two or three texts: (anchor, positive), (anchor, positive, negative), or a pair with a similarity from -1 to 1. */
export interface EmbeddingSample {
  readonly texts: readonly EncodedText[];
  readonly similarity?: number;
}

export interface SentenceEmbeddingOptions {
  /**
   * "multiple-negatives": the other positives of the batch are negatives (InfoNCE; a batch is then one run).
   * "triplet": anchor, positive, negative with a margin. "cosine": squared error of the cosine against a given similarity.
   */
  readonly objective: "multiple-negatives" | "triplet" | "cosine";
  /** Divides the similarities of multiple-negatives; default 0.05. */
  readonly temperature?: number;
  /** Margin of triplet; default 0.5, with cosine distance. */
  readonly margin?: number;
}

/** Mean of the token states that are no padding, then unit length: [batch, sequence, hidden] to [batch, hidden]. */
export function meanPooled({ g, output, attentionMask }: TaskGraph): Value {
  const flags = g.unsqueeze(g.cast(attentionMask, "float32"), [2]);
  const sum = g.reduceSum(g.mul(output, flags), [1], false);
  const mean = g.div(sum, g.max(g.reduceSum(flags, [1], false), 1e-9));
  return g.div(mean, g.sqrt(g.max(g.reduceSum(g.mul(mean, mean), [1], true), 1e-12)));
}

/** The texts of a batch stand one role after another: all anchors, all positives, all negatives. */
function roles(g: Builder, embeddings: Value, count: number): Value[] {
  const [, hidden] = embeddings.shape;
  if (typeof hidden !== "number") throw new PeftError("TASK_GRAPH", "The hidden size of the encoder must be known.");
  const stacked = g.op("Reshape", [embeddings, g.ints([count, -1, hidden])])[0] as Value;
  return Array.from({ length: count }, (_, i) => g.squeeze(g.slice(stacked, [i], [i + 1], [0]), [0]));
}

/**
 * Sentence embeddings as in Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084): mean pooling, unit length, trained
 * on pairs or triplets. Judged by retrieval (recall@1, recall@10, mean reciprocal rank of the positive among all
 * positives of the data set), or by Spearman's correlation for pairs with a similarity.
 * @example
 * const task = sentenceEmbedding({ objective: "multiple-negatives" });
 * // later, with transformers.js: extract(text, { pooling: "mean", normalize: true })
 */
export function sentenceEmbedding(options: SentenceEmbeddingOptions): TextTask<EmbeddingSample> {
  const { objective, temperature = 0.05, margin = 0.5 } = options;
  const count = objective === "triplet" ? 3 : 2;
  return {
    type: "sentence-embedding",
    head: { type: "none" },
    mainMetric: objective === "cosine" ? "spearman" : "recallAt1",
    configFields: {},
    loss(graph) {
      const { g } = graph;
      const [anchor, positive, negative] = roles(g, meanPooled(graph), count);
      if (!anchor || !positive) throw new PeftError("TASK_GRAPH", "A batch must hold pairs.");
      if (objective === "cosine") {
        const predictions = g.reduceSum(g.mul(anchor, positive), [1], false);
        return meanSquaredError(g, { predictions, labels: g.input("similarity", "float32", predictions.shape) });
      }
      const pairs = { anchors: anchor, positives: positive };
      if (objective === "triplet" && negative)
        return triplet(g, { ...pairs, negatives: negative }, { margin, distance: "cosine" });
      return multipleNegatives(g, pairs, { temperature });
    },
    prediction: meanPooled,
    lengthOf: ({ texts }) => texts.reduce((sum, { inputIds }) => sum + inputIds.length, 0),
    textsOf: ({ texts }) => texts,
    problemOf({ texts, similarity }) {
      if (texts.length !== count) return `expected ${count} texts for "${objective}", received ${texts.length}`;
      if (objective !== "cosine") return null;
      const fits = similarity !== undefined && similarity >= -1 && similarity <= 1;
      return fits ? null : `expected a similarity from -1 to 1, received ${similarity}`;
    },
    inputs(samples, padId) {
      const stacked = Array.from({ length: count }, (_, role) => samples.flatMap((s) => s.texts[role] ?? []));
      return padBatch(stacked.flat(), padId);
    },
    labels(samples): Feeds {
      if (objective !== "cosine") return {};
      return {
        similarity: float32(
          [samples.length],
          Float32Array.from(samples, (s) => s.similarity ?? Number.NaN),
        ),
      };
    },
    metrics(samples, predictions) {
      const [anchors = [], positives = []] = embeddingsByRole(predictions, samples.length, count);
      if (objective !== "cosine") return retrievalMetrics(anchors, positives);
      return {
        spearman: spearman(
          anchors.map((anchor, i) => dot(anchor, positives[i] ?? anchor)),
          samples.map((s) => s.similarity ?? Number.NaN),
        ),
      };
    },
  };
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** Ranks of each anchor's positive among all positives, one row of scores in memory at a time. Costs n² * hidden. */
function retrievalMetrics(anchors: readonly Float32Array[], positives: readonly Float32Array[]): Metrics {
  const n = anchors.length;
  const scores = new Float32Array(n);
  let [first, firstTen, reciprocal] = [0, 0, 0];
  anchors.forEach((anchor, i) => {
    for (let k = 0; k < n; k++) scores[k] = dot(anchor, positives[k] as Float32Array);
    const rank = targetRanks({ scores, targets: [i] })[0] ?? n;
    if (rank <= 1) first++;
    if (rank <= 10) firstTen++;
    reciprocal += 1 / rank;
  });
  return { recallAt1: first / n, recallAt10: firstTen / n, meanReciprocalRank: reciprocal / n };
}

/** Embeddings by role and sample, from batches that hold one role after another. */
function embeddingsByRole(predictions: readonly BatchPrediction[], samples: number, count: number): Float32Array[][] {
  const vectors = Array.from({ length: count }, () => new Array<Float32Array>(samples));
  for (const { indices, output } of predictions) {
    const width = output.dims[1] ?? 0;
    vectors.forEach((own, k) => {
      indices.forEach((index, row) => {
        const start = (k * indices.length + row) * width;
        own[index] = output.data.slice(start, start + width);
      });
    });
  }
  return vectors;
}
