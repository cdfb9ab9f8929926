import type { Model, Seed } from "@onnx-peft/core";
import { keptWeights } from "../kept-weights.ts";
import { createVocabulary, type Vocabulary } from "./captions.ts";
import { denoiserModel } from "./denoiser.ts";
import { type EmojiSplit, readEmojis, splitEmojis } from "./emoji.ts";
import { type Pretraining, pretrainDenoiser } from "./pretrain-denoiser.ts";
import { drawSubject, type Subject } from "./subject.ts";

/** A denoiser of pictures of emoji, and subjects that it has not seen. */
export interface SubjectTask {
  readonly model: Model;
  readonly vocabulary: Vocabulary;
  readonly emojis: EmojiSplit;
  subject(seed: Seed): Subject;
}

/** Some 40 minutes on one thread. */
const pretraining: Pretraining = { steps: 4000, batchSize: 64, learningRate: 2e-3 };
const SEED = 1;

/** Pre-trains the denoiser, once: its weights are kept in `runs/`. */
export async function openSubjectTask(log?: (text: string) => void): Promise<SubjectTask> {
  const all = await readEmojis();
  const [emojis, vocabulary] = [splitEmojis(all), createVocabulary(all)];
  const weights = await keptWeights(`denoiser, velocity ${JSON.stringify({ ...pretraining, SEED })}`, () =>
    pretrainDenoiser(emojis.train, vocabulary, pretraining, SEED, log),
  );
  const model = denoiserModel(weights, vocabulary.size);
  return { model, vocabulary, emojis, subject: (seed) => drawSubject(emojis.train, seed) };
}
