import {
  type AdapterConfigInput,
  adapterOf,
  buildAdapterProgram,
  createRandom,
  initialParameters,
  injectAdapter,
  type Model,
  meanSquaredError,
  mergeAdapter,
  methodOf,
  parameterTensors,
  type RuntimeTensor,
  streamSeed,
  train,
  trainedCount,
} from "@onnx-peft/core";
import { denoisingLoss } from "./denoising-loss.ts";
import { drawNoise, noisyFeeds, pictureTensor } from "./noise.ts";
import { PICTURE_TOKENS } from "./pretrain-denoiser.ts";
import type { CaptionedPicture } from "./subject.ts";
import type { SubjectTask } from "./subject-task.ts";

/** Query, key, value and output of self- and cross-attention; the text encoder's have other names and stay as they are. */
const TARGETS = ["to_q", "to_k", "to_v", "to_out.0"];

/** A training of an adapter on the pictures of a subject. */
export interface SubjectRun {
  /** `peft_type` of a registered method. */
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly steps: number;
  /** Of the subject, and of the training. */
  readonly seed: number;
}

export interface TunedSubject {
  /** With the adapter merged. */
  readonly model: Model;
  readonly parameters: number;
}

export interface SubjectResult {
  /** {@link denoisingLoss} of the subject's other pictures. */
  readonly loss: number;
  readonly parameters: number;
}

/**
 * DreamBooth without prior preservation (Ruiz et al. 2023, arXiv 2208.12242): mean squared error of the velocity in all pictures of the subject, with
 * new noise and time steps at every step; AdamW with weight decay 0.01 at a constant rate.
 * @param start changes the values that training begins with.
 */
export async function tuneSubject(
  task: SubjectTask,
  { type, config, learningRate, steps, seed }: SubjectRun,
  start: (initial: Record<string, RuntimeTensor>) => Record<string, RuntimeTensor> = (initial) => initial,
): Promise<TunedSubject> {
  const { model, vocabulary } = task;
  const { instances } = task.subject(seed);
  const adapted = injectAdapter(model, {
    ...{ method: methodOf(type), training: true },
    config: { targetModules: TARGETS, ...config } as AdapterConfigInput,
  });
  const { g } = adapted;
  const predictions = adapted.outputs.get("out_sample") ?? g.value("out_sample");
  const loss = meanSquaredError(g, { predictions, labels: g.input("labels", "float32", predictions.shape) });
  const { parameters } = await train<CaptionedPicture>({
    training: buildAdapterProgram(adapted, loss),
    parameters: start(parameterTensors(adapted.parameters, initialParameters(adapted, seed))),
    data: {
      ...{ samples: instances, lengthOf: () => PICTURE_TOKENS },
      collate(some, key) {
        const random = createRandom(streamSeed(seed, "noise", key));
        const noisy = some.map(({ pixels }) => drawNoise(pixels, random));
        return {
          ...noisyFeeds(noisy),
          ...vocabulary.feeds(some.map(({ caption }) => caption)),
          labels: pictureTensor(noisy.map(({ velocity }) => velocity)),
        };
      },
    },
    options: {
      ...{ epochs: steps, batchSize: instances.length, seed, threads: 1 },
      ...{ isolation: "inline", availableMemory: "unlimited" },
      optimizer: { type: "adamw", learningRate, weightDecay: 0.01 },
      schedule: { type: "constant" },
    },
  });
  const adapter = adapterOf(adapted, new Map(Object.entries(parameters)));
  return { model: mergeAdapter(model, adapter), parameters: trainedCount(adapted, adapter) };
}

/** {@link tuneSubject}, judged on the pictures that were kept. */
export async function judgeSubject(
  task: SubjectTask,
  run: SubjectRun,
  start?: (initial: Record<string, RuntimeTensor>) => Record<string, RuntimeTensor>,
): Promise<SubjectResult> {
  const { model, parameters } = await tuneSubject(task, run, start);
  const { heldOut } = task.subject(run.seed);
  return { loss: await denoisingLoss(model, task.vocabulary, heldOut), parameters };
}
