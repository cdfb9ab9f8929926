import {
  buildTrainingProgram,
  createRandom,
  crossEntropy,
  importGraph,
  type RuntimeTensor,
  type Seed,
  streamSeed,
  type TensorData,
  tensorFrom,
  toFloat32Array,
  train,
} from "@onnx-peft/core";
import type { ImageSample } from "./digits.ts";
import { imageFeeds } from "./image-batches.ts";
import { shifted } from "./shift.ts";
import { buildVit, initialVitWeights, tokensOf, type VitSizes } from "./vit.ts";

/** How long a ViT is trained. */
export interface Pretraining {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Pixels that images are moved by at most, another way in every epoch. */
  readonly shift: number;
}

/** Trains all weights of a ViT from random ones. */
export async function pretrainVit(
  sizes: VitSizes,
  images: readonly ImageSample[],
  { epochs, batchSize, learningRate, shift }: Pretraining,
  seed: Seed,
): Promise<Map<string, TensorData>> {
  const start = initialVitWeights(sizes, streamSeed(seed, "vit", "start"));
  const { graph } = buildVit(sizes, start);
  const names = [...start.keys()];
  const g = importGraph(graph, 21, { asInputs: new Set(names), training: true });
  const loss = crossEntropy(g, { logits: g.value("logits"), labels: g.input("labels", "int64", ["batch"]) });
  const parameters = Object.fromEntries(
    [...start].map(([name, tensor]): [string, RuntimeTensor] => [
      name,
      { type: "float32", dims: tensor.dims, data: toFloat32Array(tensor) },
    ]),
  );
  const result = await train<ImageSample>({
    training: buildTrainingProgram(
      g,
      loss,
      names.map((name) => g.value(name)),
    ),
    parameters,
    data: {
      samples: images,
      lengthOf: () => tokensOf(sizes),
      collate(some, key) {
        const random = createRandom(streamSeed(seed, "shift", key));
        return imageFeeds(some.map((image) => shifted(image, shift, random)));
      },
    },
    options: {
      ...{ epochs, batchSize, seed, threads: 1, isolation: "inline", maxGradNorm: 1 },
      optimizer: { type: "adamw", learningRate },
      schedule: { type: "linear", warmupRatio: 0.06 },
    },
  });
  return new Map(
    Object.entries(result.parameters).map(([name, { dims, data }]) => [
      name,
      tensorFrom("float32", dims, data as Float32Array),
    ]),
  );
}
