/**
 * One LoRA training step beside PyTorch + peft, both sides on 2 threads, in one run:
 *   npm run bench -- [--shapes mini,base] [--rounds 2] [--python parity/.venv/bin/python]
 * Writes bench/results/step.json. Without Python only this engine is timed.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type ShapeName, type StepFigures, shapes } from "./shapes.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "mini,base" },
    rounds: { type: "string", default: "2" },
    python: { type: "string", default: "parity/.venv/bin/python" },
  },
});
const root = fileURLToPath(new URL("../../", import.meta.url));
const local = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const python = existsSync(values.python) ? values.python : null;

interface Side {
  readonly name: string;
  run(shape: ShapeName): StepFigures;
}

const ours = (name: string, ...options: string[]): Side => ({
  name,
  run: (shape) =>
    JSON.parse(
      execFileSync("node", [local("bench/dist/step.js"), shape, ...options], { cwd: root, encoding: "utf8" }),
    ) as StepFigures,
});

/** PyTorch's peak without the CUDA libraries of its default wheel, which a CPU build does not have. */
const torch = (name: string, ...options: string[]): Side => ({
  name,
  run(shape) {
    const { status, stdout, stderr } = spawnSync(
      python ?? "",
      [local("bench/pytorch/step.py"), "--shape", shape, ...options],
      { cwd: root, encoding: "utf8" },
    );
    if (status !== 0) throw new Error(`${name}: ${stderr}`);
    const line = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, number>;
    return {
      medianMs: line.step_ms_median ?? Number.NaN,
      minMs: line.step_ms_min ?? Number.NaN,
      tokensPerSecond: line.tokens_per_second ?? Number.NaN,
      peakMb: line.peak_mb_without_cuda ?? line.peak_mb ?? Number.NaN,
    };
  },
});

const sides: Side[] = [
  ours("onnx-peft float32, micro-batches of 512 tokens"),
  ours("onnx-peft float32, whole batch", "--micro", "100000"),
  ...(python
    ? [
        torch("PyTorch + peft float32"),
        torch("PyTorch + peft bfloat16 autocast", "--dtype", "bfloat16"),
        torch("PyTorch + peft float32, micro-batches of 512 tokens", "--micro", "4"),
        torch("PyTorch + peft bfloat16, micro-batches of 512 tokens", "--dtype", "bfloat16", "--micro", "4"),
      ]
    : []),
];

/** Middle value of each figure over the rounds. */
function middle(list: readonly StepFigures[]): StepFigures {
  const of = (field: keyof StepFigures): number =>
    [...list.map((f) => f[field])].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;
  return {
    medianMs: of("medianMs"),
    minMs: Math.min(...list.map((f) => f.minMs)),
    tokensPerSecond: of("tokensPerSecond"),
    peakMb: of("peakMb"),
  };
}

const results: Record<string, { title: string; sides: Record<string, StepFigures> }> = {};
for (const name of values.shapes.split(",") as ShapeName[]) {
  const measured = new Map<string, StepFigures[]>(sides.map((s) => [s.name, []]));
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const side of sides) {
      const figures = side.run(name);
      measured.get(side.name)?.push(figures);
      console.log(
        `${name} round ${round + 1} ${side.name}: ${figures.medianMs.toFixed(0)} ms, ${figures.peakMb.toFixed(0)} MB`,
      );
    }
  }
  results[name] = {
    title: shapes[name].title,
    sides: Object.fromEntries([...measured].map(([side, list]) => [side, middle(list)])),
  };
}

const reference = "PyTorch + peft float32";
const columns = ["step", "side", "step ms", "tokens/s", "peak MB", "time ratio", "memory ratio"];
const ratio = (value: number, of: number | undefined): string => (of === undefined ? "-" : (value / of).toFixed(2));
const rows = Object.values(results).flatMap(({ title, sides: measured }) => {
  const base = measured[reference];
  return Object.entries(measured).map(([side, f]) => [
    title,
    side,
    f.medianMs.toFixed(0),
    String(Math.round(f.tokensPerSecond)),
    f.peakMb.toFixed(0),
    ratio(f.medianMs, base?.medianMs),
    ratio(f.peakMb, base?.peakMb),
  ]);
});
const cpuInfo = existsSync("/proc/cpuinfo") ? await readFile("/proc/cpuinfo", "utf8") : "";
const flags = /^flags.*$/m.exec(cpuInfo)?.[0] ?? "";
const features = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"].filter((f) =>
  flags.includes(f),
);
const machine = `${cpus()[0]?.model ?? "unknown processor"} with ${features.join(", ")}, 2 threads`;
const note =
  "LoRA r 8 on query and value, complete model with embeddings, dropout 0.1, loss and optimiser; medians of ten steps, middle of the rounds. " +
  "Peak resident memory of the training process, PyTorch's without the CUDA libraries of its default wheel. Ratios are against PyTorch + peft in float32 in the same run.";
await mkdir(local("bench/results"), { recursive: true });
const record = {
  title: "One LoRA training step beside PyTorch + peft",
  command: "npm run bench",
  machine,
  table: { columns, rows },
  note,
  figures: results,
};
await writeFile(local("bench/results/step.json"), `${JSON.stringify(record, null, 2)}\n`);
for (const row of [columns, ...rows]) console.log(row.join(" | "));
