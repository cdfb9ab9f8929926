/**
 * Times one epoch of LoRA fine-tuning on real texts with this engine and prints one line of JSON:
 *   node bench/dist/epoch-ours.js <model folder> <data folder> [--compute float32|int8] [--group] [--seed 1] [--threads 2]
 * The data folder holds train.jsonl, validation.jsonl (text, label) and settings.json. Timed is everything after the imports:
 * loading, tokenising, training for one epoch, evaluation.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { encodeRows, fineTune, loadTextModel, loadTokenizer, sequenceClassification } from "@onnx-peft/text";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compute: { type: "string", default: "float32" },
    group: { type: "boolean", default: false },
    seed: { type: "string", default: "1" },
    threads: { type: "string", default: "2" },
  },
});
const [modelFolder = "", dataFolder = ""] = positionals;

interface Settings {
  readonly labels: readonly string[];
  readonly r: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly labelSmoothing: number;
}

const started = performance.now();
const settings = JSON.parse(await readFile(join(dataFolder, "settings.json"), "utf8")) as Settings;
const rowsOf = async (name: string): Promise<{ text: string; label: string }[]> =>
  (await readFile(join(dataFolder, name), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { text: string; label: string });
const source = { model: modelFolder };
const tokenizer = await loadTokenizer(source);
const idOf = new Map(settings.labels.map((label, i) => [label, i]));
const encode = async (name: string) => {
  const rows = await rowsOf(name);
  const encoded = await encodeRows(tokenizer, rows);
  return encoded.map((sample, i) => ({ ...sample, label: idOf.get(rows[i]?.label ?? "") ?? 0 }));
};
const [train, validation] = [await encode("train.jsonl"), await encode("validation.jsonl")];
const task = sequenceClassification({ labels: settings.labels, labelSmoothing: settings.labelSmoothing });
const tokenized = performance.now();
const tuned = await fineTune({
  model: await loadTextModel(source, task.head),
  task,
  train,
  validation,
  adapter: { r: settings.r, alpha: settings.alpha, dropout: settings.dropout, targetModules: "all-linear" },
  compute: values.compute === "int8" ? "int8" : "float32",
  options: {
    epochs: 1,
    batchSize: settings.batchSize,
    groupByLength: values.group,
    optimizer: { type: "adamw", learningRate: settings.learningRate },
    schedule: { type: "linear" },
    maxGradNorm: 1,
    threads: Number(values.threads),
    seed: Number(values.seed),
  },
});
const ended = performance.now();
const { training } = tuned;
await tuned.close();
console.log(
  JSON.stringify({
    seconds: (ended - started) / 1000,
    tokenizeSeconds: (tokenized - started) / 1000,
    peakMb: training.peakRssBytes / 2 ** 20,
    accuracy: training.best?.metrics["accuracy"] ?? Number.NaN,
    trainableParameters: tuned.trainableParameters,
  }),
);
