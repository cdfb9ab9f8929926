/**
 * Writes bench/results/device-check.json, a table of what `check:device` found:
 *   node bench/dist/check-table.js check-cuda.json training-cuda.json check-webgpu.json ...
 * Files of the same device and machine make one row.
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Device } from "@onnx-peft/core";
import type { TrainingComparison } from "./device/compare-training.ts";
import { isEqual } from "./device/golden-cases.ts";
import type { GoldenLine } from "./device/golden-child.ts";

interface Check {
  readonly device: Device;
  readonly machine: string;
  readonly golden: readonly GoldenLine[];
  readonly training?: TrainingComparison;
}

const found = new Map<string, Check>();
for (const path of process.argv.slice(2)) {
  const check = JSON.parse(await readFile(path, "utf8")) as Check;
  const key = `${check.device}, ${check.machine}`;
  const known = found.get(key);
  const training = check.training ?? known?.training;
  const golden = new Map([...(known?.golden ?? []), ...check.golden].map((line) => [line.name, line]));
  found.set(key, { ...check, golden: [...golden.values()], ...(training ? { training } : {}) });
}

const names = { cpu: "CPU", cuda: "CUDA", webgpu: "WebGPU" };
const largest = (numbers: readonly number[]): string =>
  numbers.length === 0 ? "-" : Math.max(...numbers).toExponential(1);
const rows = [...found.values()].map(({ device, machine, golden, training }) => {
  const ran = golden.flatMap((line) => (line.device ? [{ ...line, device: line.device }] : []));
  const different = golden
    .filter((line) => !line.device || !isEqual(line.device))
    .map(({ name }) => name.split("/")[0]);
  const nodes = (of: "deviceNodes" | "cpuNodes" | "copies"): number =>
    golden.reduce((sum, { placement }) => sum + (placement?.[of] ?? 0), 0);
  return [
    `${names[device]}: ${machine}`,
    `${golden.length - different.length} of ${golden.length}${different.length > 0 ? ` (not ${different.join(", ")})` : ""}`,
    ...[largest(ran.map((line) => line.device.loss)), largest(ran.map((line) => line.device.gradients))],
    `${nodes("deviceNodes")} / ${nodes("cpuNodes")} / ${nodes("copies")}`,
    training ? `${training.difference.toExponential(1)} over ${training.cpu.losses.length} steps` : "-",
  ];
});
const columns = [
  ...["device", "models equal to PyTorch", "largest difference of a loss", "of gradients"],
  ...["nodes on it / on the CPU / copies", "training, losses beside the CPU's"],
];
const content = {
  title: "What check:device found",
  command: "npm run check:device",
  table: { columns, rows },
  note:
    "Losses and gradients of LoRA of golden models, relative to those of PyTorch; equal is below 1e-4. Nodes are those of all models together. " +
    "The short training has the same batches and dropout masks on both sides.",
  found: [...found.values()],
};
const path = fileURLToPath(new URL("../results/device-check.json", import.meta.url));
await writeFile(path, `${JSON.stringify(content, null, 1)}\n`);
