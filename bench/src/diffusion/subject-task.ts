import type { Model, Seed } from "@onnx-peft/core";
import { keptWeights } from "../kept-weights.ts";
import { createVocabulary, type Vocabulary } from "./captions.ts";
import { denoiserModel } from "./denoiser.ts";
import { type Emoji, readEmojis, splitEmojis } from "./emoji.ts";
import { type Pretraining, pretrainDenoiser } from "./pretrain-denoiser.ts";
import { drawSubject, type Subject } from "./subject.ts";

/** A denoiser of pictures of emoji, and subjects that it has not seen. */
export interface SubjectTask {
  readonly model: Model;
  readonly vocabulary: Vocabulary;
  /** Emoji that it was not trained on. */
  readonly heldOut: readonly Emoji[];
  subject(seed: Seed): Subject;
}

/** Some 40 minutes on one thread. */
const pretraining: Pretraining = { steps: 4000, batchSize: 64, learningRate: 2e-3 };
const SEED = 1;

/** Pre-trains the denoiser, once: its weights are kept in `runs/`. */
export async function openSubjectTask(log?: (text: string) => void): Promise<SubjectTask> {
  const all = await readEmojis();
  const [{ train, heldOut }, vocabulary] = [splitEmojis(all), createVocabulary(all)];
  const weights = await keptWeights(`denoiser, velocity ${JSON.stringify({ ...pretraining, SEED })}`, () =>
    pretrainDenoiser(train, vocabulary, pretraining, SEED, log),
  );
  const model = denoiserModel(weights, vocabulary.size);
  return { model, vocabulary, heldOut, subject: (seed) => drawSubject(train, seed) };
}
