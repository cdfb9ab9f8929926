import { createBuilder } from "../../graph/builder.ts";
import type { LossParts } from "../../losses/loss-parts.ts";
import type { Value } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { createRandom, streamSeed } from "../../random/random.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../../runtime/runtime.ts";
import { buildEvaluationProgram, buildTrainingProgram } from "../program.ts";
import type { Metrics, TrainingData, TrainingRun } from "../trainer.ts";

const [VOCABULARY, WIDTH, CLASSES, RANK] = [40, 16, 3, 4];

/** Token ids, and a class for each. */
export interface TinySample {
  readonly ids: readonly number[];
  readonly labels: readonly number[];
}

/** `count` sequences of 1 to 12 tokens; a token's class depends on itself and on the first token of its sequence. */
export function tinySamples(count: number, seed = 1): TinySample[] {
  const random = createRandom(streamSeed(seed, "samples"));
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: 1 + random.integer(12) }, () => random.integer(VOCABULARY));
    return { ids, labels: ids.map((id) => (id + 2 * ((ids[0] ?? 0) % 2)) % CLASSES) };
  });
}

/** Pads to the longest; mask 0 on padding. */
export function collateTiny(samples: readonly TinySample[]): Feeds {
  const tokens = Math.max(...samples.map(({ ids }) => ids.length));
  const [ids, labels] = [new BigInt64Array(samples.length * tokens), new BigInt64Array(samples.length * tokens)];
  const mask = new Float32Array(samples.length * tokens);
  samples.forEach((sample, row) => {
    sample.ids.forEach((id, i) => {
      ids[row * tokens + i] = BigInt(id);
      labels[row * tokens + i] = BigInt(sample.labels[i] ?? 0);
      mask[row * tokens + i] = 1;
    });
  });
  const dims = [samples.length, tokens];
  return {
    ids: { type: "int64", dims, data: ids },
    labels: { type: "int64", dims, data: labels },
    mask: { type: "float32", dims, data: mask },
  };
}

interface ForwardOptions {
  readonly dropout: number;
  readonly training: boolean;
}

/** Frozen embedding, mean over the sequence added, a low-rank layer and a classifier; cross-entropy per token. */
function forward({ dropout, training }: ForwardOptions) {
  const g = createBuilder();
  g.setTraining(training);
  const shape = ["batch", "tokens"] as const;
  const [ids, labels, mask] = [
    g.input("ids", "int64", shape),
    g.input("labels", "int64", shape),
    g.input("mask", "float32", shape),
  ];
  const values = createRandom(streamSeed(3, "embedding")).fillNormal(new Float32Array(VOCABULARY * WIDTH), 0, 1);
  const table = g.initializer("embedding", tensorFrom("float32", [VOCABULARY, WIDTH], values));
  const trained: Value[] = Object.entries(tinyParameters()).map(([name, { dims }]) => g.input(name, "float32", dims));
  const [a, b, scale, classifier, bias] = trained as [Value, Value, Value, Value, Value];
  const flags = g.unsqueeze(mask, [2]); // [batch, tokens, 1]
  const x = g.mul(g.gather(table, ids), g.mul(flags, scale)); // [batch, tokens, width]
  const mean = g.div(g.reduceSum(x, [1]), g.max(g.reduceSum(flags, [1]), 1e-6)); // [batch, 1, width]
  const low = g.relu(g.matMul(g.dropout(g.add(x, mean), dropout), a)); // [batch, tokens, 4 rank]
  const hidden = g.add(x, g.dropout(g.matMul(low, b), dropout / 2));
  const logP = g.logSoftmax(g.add(g.matMul(hidden, classifier), bias));
  const picked = g.squeeze(g.gatherElements(logP, g.unsqueeze(labels, [2]), 2), [2]);
  const loss: LossParts = {
    sum: g.neg(g.reduceSum(g.mul(picked, mask), [0, 1], false)),
    weight: g.reduceSum(mask, [0, 1], false),
  };
  return { g, loss, trained };
}

/** Start values; order: low-rank A and B, embedding scale, classifier and its bias. */
export function tinyParameters(): Record<string, RuntimeTensor> {
  const random = createRandom(streamSeed(5, "parameters"));
  const tensor = (dims: readonly number[], std: number, mean = 0): RuntimeTensor => ({
    type: "float32",
    dims,
    data: random.fillNormal(new Float32Array(dims.reduce((x, y) => x * y, 1)), mean, std),
  });
  return {
    "layer.0.lora_A": tensor([WIDTH, 4 * RANK], 0.25),
    "layer.0.lora_B": tensor([4 * RANK, WIDTH], 0.25),
    "embedding.scale": tensor([WIDTH], 0, 1),
    "classifier.weight": tensor([WIDTH, CLASSES], 0.25),
    "classifier.bias": tensor([CLASSES], 0),
  };
}

export function tinyProgram(dropout = 0) {
  const { g, loss, trained } = forward({ dropout, training: true });
  return buildTrainingProgram(g, loss, trained);
}

export function tinyEvaluation() {
  const { g, loss, trained } = forward({ dropout: 0, training: false });
  return buildEvaluationProgram(g, { sum: loss.sum, weight: loss.weight }, trained);
}

export const tinyData = (count: number, seed = 1): TrainingData<TinySample> => ({
  samples: tinySamples(count, seed),
  lengthOf: ({ ids }) => ids.length,
  collate: collateTiny,
});

/** Mean loss over 16 other samples. */
export async function tinyLoss(evaluate: (feeds: Feeds) => Promise<Outputs>): Promise<Metrics> {
  const { sum, weight } = await evaluate(collateTiny(tinySamples(16, 2)));
  return { loss: Number(sum?.data[0]) / Number(weight?.data[0]) };
}

/** A run over 32 samples in batches of 8, four steps an epoch. */
export function tinyRun(
  changes: Partial<TrainingRun<TinySample>> & { dropout?: number } = {},
): TrainingRun<TinySample> {
  const { dropout = 0, options, ...rest } = changes;
  return {
    training: tinyProgram(dropout),
    parameters: tinyParameters(),
    data: tinyData(32),
    ...rest,
    options: {
      epochs: 3,
      batchSize: 8,
      microBatchTokens: 40,
      threads: 1,
      isolation: "inline",
      availableMemory: "unlimited",
      ...options,
      optimizer: options?.optimizer ?? { type: "adamw", learningRate: 0.02, weightDecay: 0.01 },
    },
  };
}
