import { createRandom, type Feeds, meanSquaredError, streamSeed, type TensorData } from "@onnx-peft/core";
import { trainFromNothing } from "../train-from-nothing.ts";
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
    labels: pictureTensor(drawn.map(({ picture }) => picture.velocity)),
  };
}

/** Trains the denoiser and its text encoder from nothing on pictures of emoji: every weight, mean squared error of the velocity. */
export const pretrainDenoiser = (
  emojis: readonly Emoji[],
  vocabulary: Vocabulary,
  pretraining: Pretraining,
  seed: number,
  log?: (text: string) => void,
): Promise<Map<string, TensorData>> =>
  trainFromNothing({
    build(g, w) {
      const predictions = buildDenoiser(g, w, vocabulary.size);
      return meanSquaredError(g, { predictions, labels: g.input("labels", "float32", predictions.shape) });
    },
    start: (name, dims) => initialWeight(name, dims, seed),
    collate: (indices) => collate(indices, emojis, vocabulary, seed),
    ...pretraining,
    ...{ tokens: PICTURE_TOKENS, seed, ...(log && { log }) },
  });
