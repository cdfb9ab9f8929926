import {
  type Adapter,
  type AdapterConfigInput,
  adapterOf,
  buildAdapterProgram,
  createRandom,
  crossEntropy,
  encodeModel,
  initialParameters,
  injectAdapter,
  type Model,
  methodOf,
  onnxruntimeNode,
  parameterTensors,
  type Random,
  type RuntimeTensor,
  streamSeed,
  train,
  trainedCount,
} from "@onnx-peft/core";
import { captionFeeds, promptOf } from "./captions.ts";
import { pixelFeeds, renderScene } from "./render-scene.ts";
import type { Scene } from "./scene.ts";

/** All linear layers of both towers' blocks, as in the paper: not the projections to the shared space. */
const SITES = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"];

/** An image and which of some classes it belongs to. */
export interface Shot {
  /** [3, size, size] */
  readonly pixels: Float32Array;
  readonly label: number;
}

/** Images of some classes, as many of each: those of a class do not depend on the others. */
export const drawShots = (
  classes: readonly string[],
  count: number,
  sceneOf: (random: Random, shape: string) => Scene,
  seed: string,
): Shot[] =>
  classes.flatMap((shape, label) =>
    Array.from({ length: count }, (_, i) => {
      const random = createRandom(streamSeed(seed, shape, i));
      return { pixels: renderScene(sceneOf(random, shape), random), label };
    }),
  );

const pixelsOf = (shots: readonly Shot[]) => pixelFeeds(shots.map(({ pixels }) => pixels));
const promptFeeds = (classes: readonly string[]) => captionFeeds(classes.map(promptOf));
const labelsOf = (shots: readonly Shot[]): RuntimeTensor => ({
  type: "int64",
  dims: [shots.length],
  data: BigInt64Array.from(shots, ({ label }) => BigInt(label)),
});

/** Share of images whose class has the prompt with the highest score. */
export async function accuracyOf(model: Model, classes: readonly string[], shots: readonly Shot[]): Promise<number> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  let right = 0;
  for (let from = 0; from < shots.length; from += 100) {
    const part = shots.slice(from, from + 100);
    const { logits_per_image } = await session.run({ ...pixelsOf(part), ...promptFeeds(classes) });
    const scores = logits_per_image?.data as Float32Array;
    part.forEach(({ label }, row) => {
      const own = scores.subarray(row * classes.length, (row + 1) * classes.length);
      if (own.indexOf(Math.max(...own)) === label) right++;
    });
  }
  await session.close();
  return right / shots.length;
}

export interface FewShotRun {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly steps: number;
  readonly seed: number;
}

/**
 * Tunes an adapter in both towers on some images: cross-entropy over the prompts of the classes, which go through the text tower at
 * every step.
 */
export async function tuneTowers(
  model: Model,
  classes: readonly string[],
  shots: readonly Shot[],
  { type, config, learningRate, weightDecay, steps, seed }: FewShotRun,
): Promise<{ readonly adapter: Adapter; readonly parameters: number; readonly losses: readonly number[] }> {
  const adapted = injectAdapter(model, {
    ...{ method: methodOf(type), training: true },
    config: { targetModules: SITES, ...config } as AdapterConfigInput,
  });
  const { g } = adapted;
  const logits = adapted.outputs.get("logits_per_image") ?? g.value("logits_per_image");
  const loss = crossEntropy(g, { logits, labels: g.input("labels", "int64", ["images"]) });
  const result = await train<Shot>({
    training: buildAdapterProgram(adapted, loss),
    parameters: parameterTensors(adapted.parameters, initialParameters(adapted, seed)),
    data: {
      ...{ samples: shots, lengthOf: () => 1, wholeBatch: true },
      collate: (some) => ({ ...pixelsOf(some), ...promptFeeds(classes), labels: labelsOf(some) }),
    },
    options: {
      ...{ epochs: (steps * 32) / shots.length, batchSize: 32, seed, threads: 1 },
      ...{ isolation: "inline", availableMemory: "unlimited" },
      optimizer: { type: "adamw", learningRate, weightDecay },
      schedule: { type: "cosine" },
    },
  });
  const adapter = adapterOf(adapted, new Map(Object.entries(result.parameters)));
  return { adapter, parameters: trainedCount(adapted, adapter), losses: result.losses };
}
