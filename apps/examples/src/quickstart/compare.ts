import { statSync } from "node:fs";
import { join } from "node:path";
import { type Device, encodeSafetensors, peakRss, type TrainEvent, tensorFrom } from "@onnx-peft/core";
import {
  type ClassificationSample,
  encodeRows,
  type FineTuned,
  fineTune,
  loadTextModel,
  loadTokenizer,
  saveResult,
  sequenceClassification,
} from "@onnx-peft/text";
import { tfIdfBaseline } from "../baselines/tf-idf-baseline.ts";
import type { GlossClassification } from "../wordnet/gloss-classification.ts";
import { linearProbe } from "./linear-probe.ts";

/** One line of the table. */
export interface Row {
  readonly system: string;
  readonly accuracy: number;
  readonly trainableParameters: number;
  readonly seconds: number;
  /** Highest resident memory of the process that trained. */
  readonly peakMb: number;
  /** What has to be shipped besides the base model. */
  readonly fileKb: number;
}

export interface Comparison {
  readonly rows: readonly Row[];
  readonly tuned: FineTuned<ClassificationSample>;
  /** Class ids of the test split, true and predicted by LoRA. */
  readonly truth: readonly number[];
  readonly predicted: readonly number[];
}

export interface CompareOptions {
  readonly backbone: string;
  readonly seed: number;
  readonly epochs: number;
  /** Arithmetic of the frozen layers while LoRA trains. */
  readonly compute: "float32" | "int8";
  /** Where LoRA trains. */
  readonly device: Device;
  readonly folder: string;
  readonly onEvent?: (event: TrainEvent) => void;
  readonly onPhase?: (name: string) => void;
}

/** The settings of the LoRA row; chosen on the validation split of seed 1. */
export const loraSettings = {
  adapter: { r: 16, alpha: 32, dropout: 0.2, targetModules: "all-linear" },
  learningRate: 2e-3,
  batchSize: 16,
  labelSmoothing: 0.1,
} as const;

/** Trains and tests the four systems on one split of the data. The test rows are looked at once, at the end of each. */
export async function compare(data: GlossClassification, options: CompareOptions): Promise<Comparison> {
  const rows: Row[] = [];
  const idOf = new Map(data.labels.map((name, i) => [name, i]));
  const truth = data.test.map((row) => idOf.get(row.label) ?? -1);
  const timed = async <T>(name: string, work: () => Promise<T> | T): Promise<{ result: T; seconds: number }> => {
    options.onPhase?.(name);
    const started = performance.now();
    const result = await work();
    return { result, seconds: (performance.now() - started) / 1000 };
  };

  const counts = new Array<number>(data.labels.length).fill(0);
  for (const { label } of data.train) counts[idOf.get(label) ?? 0] = (counts[idOf.get(label) ?? 0] ?? 0) + 1;
  const majority = counts.indexOf(Math.max(...counts));
  rows.push({
    system: "majority class",
    accuracy: share(truth, (id) => id === majority),
    trainableParameters: 0,
    seconds: 0,
    peakMb: 0,
    fileKb: 0,
  });

  const tfIdf = await timed("TF-IDF + logistic regression", () => tfIdfBaseline(data));
  rows.push({
    system: "TF-IDF + logistic regression",
    accuracy: tfIdf.result.testAccuracy,
    trainableParameters: tfIdf.result.trainableParameters,
    seconds: tfIdf.seconds,
    peakMb: peakRss() / 2 ** 20,
    fileKb: floatsKb(tfIdf.result.trainableParameters),
  });

  const source = { model: options.backbone };
  const tokenizer = await loadTokenizer(source);
  const encode = async (split: readonly { text: string; label: string }[]) => {
    const encoded = await encodeRows(tokenizer, split, { maxLength: 64 });
    return encoded.map((row, i) => ({ ...row, label: idOf.get(split[i]?.label ?? "") ?? -1 }));
  };
  const splits = {
    train: await encode(data.train),
    validation: await encode(data.validation),
    test: await encode(data.test),
  };
  const probe = await timed("frozen encoder + linear head", async () =>
    linearProbe(await loadTextModel(source, { type: "none" }), splits, data.labels.length),
  );
  rows.push({
    system: "frozen encoder + linear head",
    accuracy: probe.result.testAccuracy,
    trainableParameters: probe.result.trainableParameters,
    seconds: probe.seconds,
    peakMb: peakRss() / 2 ** 20,
    fileKb: floatsKb(probe.result.trainableParameters),
  });

  const { adapter, learningRate, batchSize, labelSmoothing } = loraSettings;
  const task = sequenceClassification({ labels: data.labels, labelSmoothing });
  const lora = await timed("LoRA", async () => {
    const model = await loadTextModel(source, task.head, options.seed);
    return fineTune({
      model,
      task,
      adapter,
      compute: options.compute,
      train: splits.train,
      validation: splits.validation,
      options: {
        epochs: options.epochs,
        batchSize,
        seed: options.seed,
        device: options.device,
        maxGradNorm: 1,
        optimizer: { type: "adamw", learningRate, weightDecay: 0.01 },
        schedule: { type: "linear", warmupRatio: 0.06 },
      },
      ...(options.onEvent ? { onEvent: options.onEvent } : {}),
    });
  });
  const tuned = lora.result;
  options.onPhase?.("LoRA on the test split");
  const predicted = new Array<number>(truth.length).fill(-1);
  for (const { indices, output } of await tuned.predict(splits.test)) {
    const classes = data.labels.length;
    indices.forEach((index, row) => {
      const scores = output.data.subarray(row * classes, (row + 1) * classes);
      predicted[index] = scores.indexOf(Math.max(...scores));
    });
  }
  await tuned.close();
  options.onPhase?.("writing the result");
  await saveResult(options.folder, tuned, { card: { title: "WordNet noun categories", license: "apache-2.0" } });
  rows.push({
    system: `LoRA r ${adapter.r}`,
    accuracy: share(truth, (id, i) => id === predicted[i]),
    trainableParameters: tuned.trainableParameters,
    seconds: lora.seconds,
    peakMb: tuned.training.peakRssBytes / 2 ** 20,
    fileKb: statSync(join(options.folder, "adapter", "adapter_model.safetensors")).size / 1024,
  });
  return { rows, tuned, truth, predicted };
}

const share = (ids: readonly number[], test: (id: number, index: number) => boolean): number =>
  ids.filter(test).length / ids.length;

/** Size of that many float32 numbers as a safetensors file. */
const floatsKb = (count: number): number =>
  encodeSafetensors([["weight", tensorFrom("float32", [count], new Float32Array(count))]]).length / 1024;
