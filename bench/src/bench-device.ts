/**
 * One LoRA training step on a GPU beside PyTorch + peft, in one run:
 *   npm run bench:device -- [--device cuda|webgpu] [--shapes mini,base] [--rounds 3] [--steps 60] [--python parity/.venv/bin/python]
 * Both sides in float32 in every round, the others once; whole batches in one run. Writes bench/results/device.json after every measurement.
 * A side that fails is left out and named, and the exit code is 1.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Device } from "@onnx-peft/core";
import { gpuName, withPeakMemory } from "./device/gpu.ts";
import { ours, type Side, type SideFigures, torch, WARM_UP } from "./device/sides.ts";
import { machineName } from "./machine.ts";
import { type ShapeName, shapes } from "./shapes.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    shapes: { type: "string", default: "mini,base" },
    rounds: { type: "string", default: "3" },
    steps: { type: "string", default: "60" },
    python: { type: "string", default: "parity/.venv/bin/python" },
    out: { type: "string", default: fileURLToPath(new URL("../results/device.json", import.meta.url)) },
  },
});
const device = values.device as Device;
const { python } = values;
const once = (side: Side): Side => ({ ...side, isSecondary: true });

/** CUDA's arena grows by powers of two: weights lie outside of it, unless asked for. */
const INSIDE_ARENA = "use_device_allocator_for_initializers=0";

const reference = "PyTorch + peft float32";
const referenceTf32 = "PyTorch + peft TF32";
const sides: Side[] = [
  ours("onnx-peft float32", device, false),
  torch(reference, python, device),
  ...(device === "cuda" ? [once(ours("onnx-peft TF32", device, true))] : []),
  once(torch(referenceTf32, python, device, "--tf32")),
  once(ours("onnx-peft float32, no dropout", device, false, "--dropout", "0")),
  once(torch("PyTorch + peft float32, no dropout", python, device, "--dropout", "0")),
  once(torch("PyTorch + peft bfloat16 autocast", python, device, "--dtype", "bfloat16")),
  once(ours("onnx-peft float32, weights inside the arena", device, false, "--setting", INSIDE_ARENA)),
  once(ours("onnx-peft float32, memory planned", device, false, "--memory-pattern")),
];

interface Figures extends SideFigures {
  /** Above what was taken before; the context of CUDA counts, on both sides. */
  readonly deviceMb: number;
}

const middle = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;

const results = new Map<ShapeName, Map<string, Figures[]>>();
const failed = new Set<string>();
const models = await mkdtemp(join(tmpdir(), "onnx-peft-models-"));
try {
  const names = values.shapes.split(",") as ShapeName[];
  const main = sides.filter((side) => !side.isSecondary);
  // What matters most comes first, in case that time runs out.
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const shape of names) await measure(shape, main, `round ${round}`);
  }
  for (const shape of names) {
    const others = sides.filter((side) => side.isSecondary);
    await measure(shape, others, "once");
  }
} finally {
  await rm(models, { recursive: true });
}
if (failed.size > 0) process.exitCode = 1;

async function measure(shape: ShapeName, chosen: readonly Side[], when: string): Promise<void> {
  const measured = results.get(shape) ?? new Map<string, Figures[]>();
  results.set(shape, measured);
  for (const side of chosen) {
    if (failed.has(side.name)) continue;
    try {
      const { result, peakMb } = await withPeakMemory(() => side.run(shape, models, Number(values.steps)));
      const figures = { ...result, deviceMb: peakMb };
      measured.set(side.name, [...(measured.get(side.name) ?? []), figures]);
      console.log(`${shape} ${when} ${side.name}: ${figures.medianMs.toFixed(1)} ms, ${peakMb} MB`);
    } catch (error) {
      failed.add(side.name);
      console.log(`${shape} ${side.name} failed: ${error instanceof Error ? error.message : String(error)}`);
    }
    await record();
  }
}

async function record(): Promise<void> {
  const columns = ["step", "side", "step ms", "tokens/s", "GPU MB", "time ratio", "memory ratio"];
  const ratio = (a: number, b: number): string => (Number.isFinite(a / b) ? (a / b).toFixed(2) : "-");
  const rows = [...results].flatMap(([name, measured]) => {
    const { title, batch, tokens } = shapes[name];
    const of = (side: string, field: keyof Figures): number => middle((measured.get(side) ?? []).map((f) => f[field]));
    return [...measured.keys()].map((side) => {
      const [ms, mb] = [of(side, "medianMs"), of(side, "deviceMb")];
      const other = side.includes("TF32") ? referenceTf32 : reference;
      return [
        ...[title, side, ms.toFixed(1), String(Math.round((batch * tokens * 1000) / ms)), String(mb)],
        ...[ratio(ms, of(other, "medianMs")), ratio(mb, of(other, "deviceMb"))],
      ];
    });
  });
  const note =
    `LoRA r 8 on query and value, complete model with embeddings, dropout 0.1, loss and optimiser; medians of ${values.steps} steps after ${WARM_UP}, middle of the rounds. ` +
    "PyTorch runs eagerly, with its own attention kernels. Ratios are against PyTorch + peft in float32, those of the lines in TF32 against PyTorch + peft in TF32. " +
    "Memory of the GPU as nvidia-smi shows it, CUDA's own included.";
  const content = {
    ...{ title: "A LoRA training step on a GPU beside PyTorch + peft", command: "npm run bench:device" },
    ...{ machine: `${gpuName() ?? "no NVIDIA GPU"}, ${machineName()}`, device, table: { columns, rows }, note },
    figures: Object.fromEntries([...results].map(([name, measured]) => [name, Object.fromEntries(measured)])),
  };
  await mkdir(dirname(values.out), { recursive: true });
  await writeFile(values.out, `${JSON.stringify(content, null, 2)}\n`);
}
