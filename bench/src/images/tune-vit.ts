import {
  type AdapterConfigInput,
  adapterOf,
  buildAdapterProgram,
  crossEntropy,
  initialParameters,
  injectAdapter,
  mergeAdapter,
  methodOf,
  parameterTensors,
  train,
  trainedCount,
} from "@onnx-peft/core";
import type { ImageSample } from "./digits.ts";
import { imageAccuracy, imageFeeds } from "./image-batches.ts";
import type { Draw, ImageTask } from "./image-task.ts";
import { tokensOf } from "./vit.ts";

/** A training of an adapter and a new head on few images. */
export interface ImageRun {
  /** `peft_type` of a registered method. */
  readonly type: string;
  /** Its options, with `targetModules`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly epochs: number;
  readonly batchSize: number;
  readonly seed: number;
}

export interface ImageResult {
  /** Share of the test images that the merged model tells apart. */
  readonly accuracy: number;
  /** Trained values, the head left out. */
  readonly parameters: number;
  /** Mean training loss of the last epoch. */
  readonly loss: number;
}

/**
 * AdamW with weight decay 1e-4, a cosine after a tenth of warm-up, and one rate for adapter and head, as the VTAB-1k runs of ViT
 * adapters have them; the last step is judged.
 */
export async function tuneVit(task: ImageTask, draw: Draw, run: ImageRun): Promise<ImageResult> {
  const { type, config, learningRate, epochs, batchSize, seed } = run;
  const { classes, hiddenSize } = task.sizes;
  const model = task.model(seed);
  const adapted = injectAdapter(model, {
    method: methodOf(type),
    config: { ...config, modulesToSave: ["classifier"] } as AdapterConfigInput,
    ...{ wantedOutputs: ["logits"], training: true },
  });
  const { g, outputs } = adapted;
  const loss = crossEntropy(g, {
    logits: outputs.get("logits") ?? g.value("logits"),
    labels: g.input("labels", "int64", ["batch"]),
  });
  const { parameters, losses } = await train<ImageSample>({
    training: buildAdapterProgram(adapted, loss),
    parameters: parameterTensors(adapted.parameters, initialParameters(adapted, seed)),
    data: { samples: draw.train, lengthOf: () => tokensOf(task.sizes), collate: (some) => imageFeeds(some) },
    options: {
      ...{ epochs, batchSize, seed, threads: 1, isolation: "inline", maxGradNorm: 1 },
      optimizer: { type: "adamw", learningRate, weightDecay: 1e-4 },
      schedule: { type: "cosine", warmupRatio: 0.1 },
    },
  });
  const adapter = adapterOf(adapted, new Map(Object.entries(parameters)));
  const last = losses.slice(-Math.ceil(draw.train.length / batchSize));
  return {
    accuracy: await imageAccuracy(mergeAdapter(model, adapter), draw.test),
    parameters: trainedCount(adapted, adapter) - classes * (hiddenSize + 1),
    loss: last.reduce((a, b) => a + b, 0) / last.length,
  };
}
