/**
 * Estimated beside measured peak memory of the training process, for ten shapes of models and batches:
 *   npm run bench:memory -- [part of a title]
 * Every measurement is a process of its own, and its kernel's mark of the highest resident memory. Writes
 * bench/results/memory.json.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type MemoryFigures, measureMemory } from "./measure-memory.ts";
import { memoryShapes } from "./memory-shapes.ts";

const results = fileURLToPath(new URL("../results", import.meta.url));
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
const folder = await mkdtemp(join(tmpdir(), "onnx-peft-memory-"));
const figures: (MemoryFigures & { title: string })[] = [];
try {
  for (const shape of memoryShapes.filter(({ title }) => title.includes(process.argv[2] ?? ""))) {
    const found = await measureMemory(join(folder, String(figures.length)), shape);
    figures.push({ title: shape.title, ...found });
    const { measuredBytes, estimate } = found;
    console.log(
      `${shape.title}: measured ${megabytes(measuredBytes)} MB, estimated ${megabytes(estimate.totalBytes)} MB, ratio ${(estimate.totalBytes / measuredBytes).toFixed(3)}`,
    );
  }
} finally {
  await rm(folder, { recursive: true });
}
const columns = [
  "training",
  "measured MB",
  "estimated MB",
  "ratio",
  "activations",
  "weights",
  "adapter",
  "batches",
  "graph",
  "runtime",
];
const rows = figures.map(({ title, measuredBytes, estimate: e }) => [
  title,
  megabytes(measuredBytes),
  megabytes(e.totalBytes),
  (e.totalBytes / measuredBytes).toFixed(2),
  ...[e.activationBytes, e.weightBytes, e.adapterBytes, e.feedBytes, e.graphBytes, e.runtimeBytes].map(megabytes),
]);
const worst = Math.max(...figures.map((f) => Math.abs(f.estimate.totalBytes / f.measuredBytes - 1)));
const record = {
  title: "Estimated and measured peak memory of the training process",
  command: "npm run bench:memory",
  table: { columns, rows },
  note: `Two steps in a process of its own, random weights, LoRA r 8. Largest deviation ${(100 * worst).toFixed(0)} %. The right half says what the estimate is made of.`,
  figures,
};
if (process.argv[2] === undefined) {
  await mkdir(results, { recursive: true });
  await writeFile(join(results, "memory.json"), `${JSON.stringify(record, null, 2)}\n`);
}
for (const row of [columns, ...rows]) console.log(row.join(" | "));
if (worst > 0.15) process.exitCode = 1;
