/**
 * Pre-trains the embedded backbone: a small BERT, by masked-language modelling on WordNet, with this project's own engine.
 *   npm run pretrain:text -- [--epochs 5] [--out <folder>]
 * Interrupted runs go on where they were. Definitions that the quickstart evaluates on are never seen (held-out.ts).
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { AutoTokenizer, env } from "@huggingface/transformers";
import {
  buildTrainingProgram,
  createRandom,
  crossEntropy,
  encodeSafetensors,
  importGraph,
  lineChart,
  type RuntimeTensor,
  streamSeed,
  tensorFrom,
  train,
} from "@onnx-peft/core";
import { buildEncoder, initialBertWeights } from "@onnx-peft/text";
import { pretrainingTexts } from "../wordnet/pretraining-texts.ts";
import { maskedBatch } from "./masked-language.ts";
import { specialTokens, tokenizerFiles, trainWordPiece } from "./word-piece.ts";

const { values } = parseArgs({
  options: {
    epochs: { type: "string", default: "5" },
    out: { type: "string", default: "apps/examples/models/wordnet-bert" },
    work: { type: "string", default: "runs/pretrain" },
    threads: { type: "string" },
  },
});
const [out, work] = [resolve(values.out), resolve(values.work)];

export const backboneConfig = {
  architectures: ["BertForMaskedLM"],
  model_type: "bert",
  vocab_size: 6000,
  hidden_size: 256,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 1024,
  hidden_act: "gelu",
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  max_position_embeddings: 128,
  type_vocab_size: 2,
  layer_norm_eps: 1e-12,
  pad_token_id: 0,
  initializer_range: 0.02,
} as const;
const MAX_LENGTH = 64;
const MASKED_SHARE = 0.2;

await mkdir(out, { recursive: true });
await mkdir(work, { recursive: true });
const texts = pretrainingTexts();
if (!existsSync(join(out, "tokenizer.json"))) {
  console.log(`learning ${backboneConfig.vocab_size} word pieces from ${texts.length} texts`);
  const vocabulary = trainWordPiece(texts, backboneConfig.vocab_size);
  for (const [name, content] of Object.entries(tokenizerFiles(vocabulary, backboneConfig.max_position_embeddings))) {
    await writeFile(join(out, name), JSON.stringify(content));
  }
}
await writeFile(join(out, "config.json"), `${JSON.stringify(backboneConfig, null, 2)}\n`);
env.allowRemoteModels = false;
env.localModelPath = dirname(out);
const tokenizer = await AutoTokenizer.from_pretrained(basename(out));
const samples = texts.map((text) => Int32Array.from((tokenizer.encode(text) as number[]).slice(0, MAX_LENGTH)));
const tokens = samples.reduce((sum, s) => sum + s.length, 0);

// Dropout off: at a handful of epochs a model of this size does not overfit.
const config = { ...backboneConfig, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 };
const weights = initialBertWeights(config, createRandom(streamSeed(42, "init")), "masked-lm");
const model = buildEncoder(config, weights, { type: "masked-lm" });
const trained = new Set(weights.keys());
const g = importGraph(model.graph, 21, { asInputs: trained, training: true });
const logits = g.value("logits");
const labels = g.input("labels", "int64", ["masked"]);
const loss = crossEntropy(g, { logits, labels });
const training = buildTrainingProgram(
  g,
  loss,
  [...trained].map((name) => g.value(name)),
);
const parameters = Object.fromEntries(
  [...weights].map(([name, t]): [string, RuntimeTensor] => [
    name,
    { type: "float32", dims: t.dims, data: new Float32Array(t.data.buffer, t.data.byteOffset, t.data.length / 4) },
  ]),
);
const count = Object.values(parameters).reduce((sum, p) => sum + p.data.length, 0);
console.log(`${(count / 1e6).toFixed(2)} M parameters, ${samples.length} texts, ${(tokens / 1e6).toFixed(2)} M tokens`);

const decayed = [...trained].filter((name) => name.endsWith(".weight") && !name.includes("LayerNorm"));
const options = {
  epochs: Number(values.epochs),
  batchSize: 256,
  microBatchTokens: 2048,
  maxGradNorm: 1,
  seed: 42,
  saveSteps: 250,
  optimizer: { type: "adamw", learningRate: 1e-3, betas: [0.9, 0.98] as [number, number] },
  schedule: { type: "linear", warmupRatio: 0.06 },
  ...(values.threads === undefined ? {} : { threads: Number(values.threads) }),
} as const;
const history: { x: number; y: number }[] = [];
let shown = 0;
const result = await train({
  training,
  parameters,
  options,
  folder: work,
  groups: [{ names: decayed, learningRate: options.optimizer.learningRate, weightDecay: 0.01 }],
  data: {
    samples,
    lengthOf: (s) => s.length,
    collate: (batch, key) =>
      maskedBatch(
        batch,
        { pad: 0, mask: 4, firstOrdinary: specialTokens.length, size: config.vocab_size },
        MASKED_SHARE,
        key,
      ),
  },
  onEvent(event) {
    if (event.type !== "progress" || (event.step % 50 !== 0 && event.step !== 1)) return;
    if (event.step === shown) return;
    shown = event.step;
    console.log(
      `step ${event.step} epoch ${event.epoch.toFixed(2)} loss ${event.loss.toFixed(3)} ${Math.round(event.tokensPerSecond)} tokens/s, ${Math.round(event.remainingMs / 60000)} min left`,
    );
  },
});
const WINDOW = 50;
for (let i = 0; i + WINDOW <= result.losses.length; i += WINDOW) {
  history.push({ x: i + WINDOW, y: result.losses.slice(i, i + WINDOW).reduce((a, b) => a + b, 0) / WINDOW });
}
const half = Object.entries(result.parameters).map(
  ([name, t]) => [name, tensorFrom("float16", t.dims, t.data as Float32Array)] as const,
);
await writeFile(join(out, "model.safetensors"), encodeSafetensors(half, { format: "pt" }));
await writeFile(
  join(out, "pretraining.jsonl"),
  history.map(({ x, y }) => `${JSON.stringify({ step: x, loss: Number(y.toFixed(4)) })}\n`).join(""),
);
await writeFile(
  join(out, "pretraining.svg"),
  lineChart([{ name: "masked-language loss", points: history }], {
    title: "Pre-training on WordNet",
    xLabel: "step",
    yLabel: "loss",
  }),
);
console.log(
  `final loss ${history.at(-1)?.y.toFixed(3)} after ${result.steps} steps, ${(result.elapsedMs / 60000).toFixed(1)} min, ${(await readFile(join(out, "model.safetensors"))).length} bytes`,
);
