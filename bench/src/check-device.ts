/**
 * Checks a GPU: golden models against PyTorch's losses and adapter gradients, and a short training beside the CPU.
 *   npm run check:device -- --device cuda|webgpu [--only bert,vit] [--samples 300] [--epochs 2] [--part golden|training] [--out file.json] [--machine name]
 * `check-table.ts` makes the table of the README of what goes to --out. Says how many nodes ran on the CPU in the place of the device. The exit code is 1 where something differs or fails.
 */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import type { Device } from "@onnx-peft/core";
import { compareTraining, type TrainingComparison } from "./device/compare-training.ts";
import { isEqual } from "./device/golden-cases.ts";
import type { GoldenLine } from "./device/golden-child.ts";
import { gpuName } from "./device/gpu.ts";
import { placementText } from "./device/placed-runtime.ts";
import { runGolden } from "./device/run-golden.ts";
import { machineName } from "./machine.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    only: { type: "string" },
    samples: { type: "string", default: "300" },
    epochs: { type: "string", default: "2" },
    part: { type: "string" },
    out: { type: "string" },
    machine: { type: "string" },
  },
});
const device = values.device as Device;

/** Rounding grows from step to step. */
const TRAINING_LIMIT = 1e-2;

const golden: GoldenLine[] = [];
let training: TrainingComparison | undefined;
let failed = 0;

const record = async (): Promise<void> => {
  if (values.out !== undefined) {
    const machine = values.machine ?? gpuName() ?? machineName();
    await writeFile(values.out, `${JSON.stringify({ device, machine, golden, training }, null, 1)}\n`);
  }
};

if (values.part !== "training") {
  await runGolden(device, values.only?.split(",") ?? [], (line) => {
    golden.push(line);
    console.log(goldenText(line));
  });
  await record();
}
if (values.part !== "golden") {
  try {
    training = await compareTraining(device, Number(values.samples), Number(values.epochs));
    console.log(trainingText(training));
  } catch (error) {
    failed++;
    console.log(`training: FAILED: ${error instanceof Error ? error.message : String(error)}`);
  }
  await record();
}
console.log(failed === 0 ? `${device}: all equal` : `${device}: ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function goldenText({ name, cpu, device: found, placement, error }: GoldenLine): string {
  if (!cpu || !found) {
    failed++;
    return `${name}: FAILED: ${error}`;
  }
  const equal = isEqual(found);
  if (!equal) failed++;
  const share = (x: number): string => x.toExponential(1);
  const distances = `loss ${share(found.loss)} (CPU ${share(cpu.loss)}), gradients ${share(found.gradients)} (CPU ${share(cpu.gradients)})`;
  return `${name}: ${equal ? "equal" : "DIFFERENT"}: ${distances}; ${placement ? placementText(placement) : ""}`;
}

function trainingText({ cpu, device: other, difference }: TrainingComparison): string {
  const equal = difference <= TRAINING_LIMIT;
  if (!equal) failed++;
  const side = ({ losses, accuracy, seconds }: TrainingComparison["cpu"]): string =>
    `loss ${losses[0]?.toFixed(4)} to ${losses.at(-1)?.toFixed(4)}, accuracy ${accuracy.toFixed(3)}, ${seconds.toFixed(1)} s`;
  const where = other.placement ? `; ${placementText(other.placement)}` : "";
  return `training, ${cpu.losses.length} steps: ${equal ? "equal" : "DIFFERENT"}: losses differ by ${difference.toExponential(1)} at most; CPU ${side(cpu)}; ${device} ${side(other)}${where}`;
}
