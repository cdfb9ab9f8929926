/**
 * Writes the quickstart's data as files, for programs in other languages:
 *   node apps/examples/dist/wordnet/export-glosses.js <folder> [training rows] [validation rows]
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loraSettings } from "../quickstart/compare.ts";
import { type GlossRow, glossClassification } from "./gloss-classification.ts";

const [folder = "glosses", train = "2000", validation = "1000"] = process.argv.slice(2);
const data = glossClassification({ seed: 1, train: Number(train), validation: Number(validation), test: 1000 });
const jsonLines = (rows: readonly GlossRow[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const { adapter, learningRate, batchSize, labelSmoothing } = loraSettings;
await mkdir(folder, { recursive: true });
await writeFile(join(folder, "train.jsonl"), jsonLines(data.train));
await writeFile(join(folder, "validation.jsonl"), jsonLines(data.validation));
await writeFile(
  join(folder, "settings.json"),
  `${JSON.stringify({ labels: data.labels, ...adapter, targetModules: "all-linear", learningRate, batchSize, labelSmoothing }, null, 2)}\n`,
);
