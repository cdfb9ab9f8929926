import {
  buildTrainingProgram,
  createBuilder,
  createRandom,
  type Feeds,
  meanSquaredError,
  type RuntimeTensor,
  streamSeed,
  type TensorData,
  tensorFrom,
  train,
  type Value,
} from "@onnx-peft/core";
import type { Vocabulary } from "./captions.ts";
import { buildDenoiser, initialWeight } from "./denoiser.ts";
import type { Emoji } from "./emoji.ts";
import { drawNoise, noisyFeeds, pictureTensor } from "./noise.ts";
import { captionOf, drawPlacement, renderPicture } from "./picture.ts";

/** How long a denoiser is trained. */
export interface Pretraining {
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
}

/** Tokens of a picture: its patches. */
export const PICTURE_TOKENS = 64;
/** Share of captions that are left out, so that the model knows pictures without one too. */
const WITHOUT_CAPTION = 0.1;

/** Training samples, each a function of its index. */
function collate(indices: readonly number[], emojis: readonly Emoji[], vocabulary: Vocabulary, seed: number): Feeds {
  const drawn = indices.map((index) => {
    const random = createRandom(streamSeed(seed, "picture", index));
    const emoji = emojis[random.integer(emojis.length)] as Emoji;
    const placement = drawPlacement(random);
    const caption = random.uniform() < WITHOUT_CAPTION ? "" : captionOf(emoji.name, placement);
    return { caption, picture: drawNoise(renderPicture(emoji.rgba, placement), random) };
  });
  return {
    ...noisyFeeds(drawn.map(({ picture }) => picture)),
    ...vocabulary.feeds(drawn.map(({ caption }) => caption)),
    labels: pictureTensor(drawn.map(({ picture }) => picture.noise)),
  };
}

/** Trains the denoiser and its text encoder from nothing on pictures of emoji: every weight, mean squared error of the noise. */
export async function pretrainDenoiser(
  emojis: readonly Emoji[],
  vocabulary: Vocabulary,
  { steps, batchSize, learningRate }: Pretraining,
  seed: number,
  onStep?: (step: number, loss: number) => void,
): Promise<Map<string, TensorData>> {
  const g = createBuilder(21);
  const start: Record<string, RuntimeTensor> = {};
  const trained: Value[] = [];
  const weight = (name: string, dims: readonly number[]): Value => {
    start[name] = initialWeight(name, dims, seed);
    const input = g.input(name, "float32", dims);
    trained.push(input);
    return input;
  };
  const predictions = buildDenoiser(g, { weight, check() {} }, vocabulary.size);
  const loss = meanSquaredError(g, { predictions, labels: g.input("labels", "float32", predictions.shape) });
  const { parameters } = await train<number>({
    training: buildTrainingProgram(g, loss, trained),
    parameters: start,
    data: {
      samples: Int32Array.from({ length: steps * batchSize }, (_, i) => i),
      lengthOf: () => PICTURE_TOKENS,
      collate: (indices) => collate(indices, emojis, vocabulary, seed),
    },
    options: {
      ...{ epochs: 1, batchSize, seed, threads: 1, isolation: "inline", availableMemory: "unlimited" },
      ...{ maxGradNorm: 1, optimizer: { type: "adamw", learningRate, weightDecay: 0.01 } },
      schedule: { type: "cosine", warmupRatio: 0.05 },
    },
    onEvent: (event) => {
      if (event.type === "progress") onStep?.(event.step, event.loss);
    },
  });
  return new Map(
    Object.entries(parameters).map(([name, { dims, data }]) => [
      name,
      tensorFrom("float32", dims, data as Float32Array),
    ]),
  );
}
