import {
  type AdapterConfigInput,
  encodeSafetensors,
  type Method,
  methodOf,
  type ParameterGroup,
  PeftError,
  type TrainEvent,
  toPeft,
} from "@onnx-peft/core";
import type { ClassificationSample } from "@onnx-peft/text";
import { type FineTuned, fineTune, openPredictor, predictionRows } from "@onnx-peft/text";
import type { GlossTask } from "./gloss-task.ts";

/** One training of the gloss task with one method. Everything but `method` and `onEvent` is plain data. */
export interface MethodRun {
  /** `peft_type` of a registered method. */
  readonly type: string;
  /** Its options, with `targetModules`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly seed: number;
  readonly epochs: number;
  /** Samples of a step; default 16. */
  readonly batchSize?: number;
  /** Of the classifier, which every method trains; default {@link HEAD_LEARNING_RATE}. */
  readonly headLearningRate?: number;
  /** LoRA+: learning rate of B over that of A. */
  readonly loraPlusRatio?: number;
  /** A method that is not registered, or one with other hooks: then the training runs in this process. */
  readonly method?: Method;
  readonly onEvent?: (event: TrainEvent) => void;
}

/** Which splits are looked at. */
export interface Judged {
  readonly validation?: boolean;
  readonly test?: boolean;
  /** Compare the merged model with the adapted one. */
  readonly merge?: boolean;
}

export interface MethodFigures {
  readonly validationAccuracy: number | null;
  readonly testAccuracy: number | null;
  /** Training loss of every step. */
  readonly losses: readonly number[];
  /** Trained values of the adapter, the classifier left out. */
  readonly parameters: number;
  /** The adapter as safetensors, the classifier left out. */
  readonly fileBytes: number;
  /** Of the training alone. */
  readonly seconds: number;
  /** Highest resident memory of the process that trained; null when that was this one. */
  readonly peakBytes: number | null;
  /** Largest difference between the logits of the merged and of the adapted model over the largest logit; null: not asked for, or no delta. */
  readonly mergeError: number | null;
  /** Why there is no result: the step at which numbers stopped being finite. */
  readonly diverged: string | null;
}

/** Chosen so that the classifier alone neither stands still nor forgets its start. */
export const HEAD_LEARNING_RATE = 1e-3;

const MERGE_TEXTS = 64;
const isHead = (name: string): boolean => /(^|\.)classifier\./.test(name);

const methodFor = (run: MethodRun): Method => run.method ?? methodOf(run.type);
const isolationFor = (run: MethodRun): "inline" | "process" => (run.method ? "inline" : "process");

/**
 * Trains one configuration of a method: linear schedule with warm-up, AdamW, gradients clipped at 1, one thread, dropout of
 * the backbone as its config says. The last step is the result; close it.
 * @throws PeftError NOT_FINITE when the training diverged
 */
export function tuneGloss(gloss: GlossTask, run: MethodRun): Promise<FineTuned<ClassificationSample>> {
  const { headLearningRate = HEAD_LEARNING_RATE } = run;
  return fineTune<ClassificationSample, object>({
    ...{ model: gloss.model, task: gloss.task, train: gloss.train, method: methodFor(run) },
    ...(gloss.original ? { original: gloss.original } : {}),
    adapter: { ...run.config } as AdapterConfigInput<object>,
    options: {
      ...{ epochs: run.epochs, batchSize: run.batchSize ?? 16, microBatchTokens: 256 },
      ...{ seed: run.seed, maxGradNorm: 1, threads: 1, isolation: isolationFor(run) },
      optimizer: { type: "adamw", learningRate: run.learningRate },
      schedule: { type: "linear", warmupRatio: 0.06 },
    },
    groups: (names) => groupsOf(names, { ...run, headLearningRate }),
    ...(run.onEvent ? { onEvent: run.onEvent } : {}),
  });
}

/** {@link tuneGloss}, judged. */
export async function trainMethod(gloss: GlossTask, run: MethodRun, judged: Judged): Promise<MethodFigures> {
  let tuned: FineTuned<ClassificationSample>;
  try {
    tuned = await tuneGloss(gloss, run);
  } catch (error) {
    if (!(error instanceof PeftError) || error.code !== "NOT_FINITE") throw error;
    return { ...nothing, diverged: error.message };
  }
  try {
    const accuracyOf = async (samples: readonly ClassificationSample[]): Promise<number> =>
      (await tuned.evaluate(samples)).accuracy ?? Number.NaN;
    const { training, adapter } = tuned;
    const files = [...toPeft(adapter).tensors].filter(([name]) => !isHead(name));
    return {
      validationAccuracy: judged.validation ? await accuracyOf(gloss.validation) : null,
      testAccuracy: judged.test ? await accuracyOf(gloss.test) : null,
      losses: training.losses,
      parameters: tuned.trainableParameters - gloss.probe.trainableParameters,
      fileBytes: files.length === 0 ? 0 : encodeSafetensors(files).length,
      seconds: training.elapsedMs / 1000,
      peakBytes: isolationFor(run) === "process" ? training.peakRssBytes : null,
      mergeError:
        judged.merge && methodFor(run).delta ? await mergeError(tuned, gloss.test.slice(0, MERGE_TEXTS)) : null,
      diverged: null,
    };
  } finally {
    await tuned.close();
  }
}

const nothing: Omit<MethodFigures, "diverged"> = {
  ...{ validationAccuracy: null, testAccuracy: null, losses: [], parameters: 0, fileBytes: 0, seconds: 0 },
  ...{ peakBytes: null, mergeError: null },
};

function groupsOf(
  names: readonly string[],
  { headLearningRate, loraPlusRatio, learningRate }: MethodRun & { readonly headLearningRate: number },
): ParameterGroup[] {
  const group = (chosen: string[], rate: number): ParameterGroup[] =>
    chosen.length === 0 ? [] : [{ names: chosen, learningRate: rate, weightDecay: 0 }];
  return [
    ...group(names.filter(isHead), headLearningRate),
    ...(loraPlusRatio === undefined
      ? []
      : group(
          names.filter((name) => name.includes("lora_B")),
          learningRate * loraPlusRatio,
        )),
  ];
}

/** Largest difference between the logits of the adapted and of the merged model, relative to the largest of them. */
async function mergeError(
  tuned: FineTuned<ClassificationSample>,
  texts: readonly ClassificationSample[],
): Promise<number> {
  const { model, task, adapter } = tuned;
  await using merged = openPredictor({ model, task, adapter, threads: 1 });
  const rowsOf = async (predictor: Pick<typeof merged, "predict">): Promise<Float32Array[]> =>
    predictionRows(await predictor.predict(texts), texts.length);
  const [wanted, found] = [await rowsOf(tuned), await rowsOf(merged)];
  let [difference, largest] = [0, 0];
  wanted.forEach((row, i) => {
    row.forEach((value, k) => {
      difference = Math.max(difference, Math.abs(value - (found[i]?.[k] ?? Number.NaN)));
      largest = Math.max(largest, Math.abs(value));
    });
  });
  return difference / largest;
}
