import { createRandom, type Model, type Seed, shuffle, streamSeed } from "@onnx-peft/core";
import { keptWeights } from "../kept-weights.ts";
import { DIGIT_SIZE, type ImageSample, readDigits } from "./digits.ts";
import { imageAccuracy } from "./image-batches.ts";
import { type Pretraining, pretrainVit } from "./pretrain-vit.ts";
import { buildVit, initialClassifier, type VitSizes } from "./vit.ts";

/** A ViT for 28 x 28 pixels: 16 patches, four layers, 0.2 M weights. */
const smallVit: Omit<VitSizes, "classes"> = {
  ...{ imageSize: DIGIT_SIZE, patchSize: 7, channels: 1 },
  ...{ hiddenSize: 64, intermediateSize: 256, layers: 4, heads: 4 },
};

/** Digits that a ViT is pre-trained on, and others that it is tuned on. */
export interface ImageTaskOptions {
  readonly pretrained: readonly number[];
  readonly tuned: readonly number[];
  readonly pretraining: Pretraining;
  /** Images of each pre-trained class that are kept to judge the pre-training. */
  readonly heldOut: number;
  /** Images of each tuned class that settings are chosen on; the others are judged on. */
  readonly setup: number;
}

/** Images to train on, and all others. */
export interface Draw {
  readonly train: readonly ImageSample[];
  readonly test: readonly ImageSample[];
}

export interface ImageTask {
  readonly sizes: VitSizes;
  /** Share of held-out images of its own classes that the pre-trained ViT tells apart. */
  readonly pretrainedAccuracy: number;
  /** The pre-trained ViT with a new head. */
  model(seed: Seed): Model;
  /** Some images per class of one part, and the others of that part. */
  draw(part: "setup" | "judged", perClass: number, seed: Seed): Draw;
}

/** The first images of each class after a shuffle, and the rest. */
function cut(classes: readonly ImageSample[][], count: number, seed: Seed): [ImageSample[][], ImageSample[][]] {
  const shuffled = classes.map((images, label) => shuffle(images, createRandom(streamSeed(seed, "class", label))));
  return [shuffled.map((images) => images.slice(0, count)), shuffled.map((images) => images.slice(count))];
}

/** Pre-trains a small ViT, once: its weights are kept in `runs/`. */
export async function openImageTask(options: ImageTaskOptions): Promise<ImageTask> {
  const { pretrained, tuned, pretraining, heldOut, setup } = options;
  const own = { ...smallVit, classes: pretrained.length };
  const [held, seen] = cut(readDigits(pretrained), heldOut, "pre-training");
  const weights = await keptWeights(`vit ${JSON.stringify({ own, pretrained, pretraining, heldOut })}`, () =>
    pretrainVit(own, seen.flat(), pretraining, pretrained.join("")),
  );
  const parts = cut(readDigits(tuned), setup, "tuning");
  const sizes = { ...smallVit, classes: tuned.length };
  return {
    sizes,
    pretrainedAccuracy: await imageAccuracy(buildVit(own, weights), held.flat()),
    model: (seed) =>
      buildVit(sizes, new Map([...weights, ...initialClassifier(sizes, createRandom(streamSeed(seed, "head")))])),
    draw(part, perClass, seed) {
      const [train, test] = cut(parts[part === "setup" ? 0 : 1], perClass, streamSeed(seed, "draw"));
      return { train: train.flat(), test: test.flat() };
    },
  };
}
