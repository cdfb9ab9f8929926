/**
 * One LoRA training step beside PyTorch + peft, both sides on 2 threads, in one run:
 *   npm run bench -- [--shapes mini,base] [--rounds 2] [--python parity/.venv/bin/python]
 * Writes bench/results/step.json, after every shape. Without Python only this engine is timed. Eight minutes on two
 * quiet cores. A side that fails is left out and named, and the exit code is 1.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { detectWeightBits, onnxruntimeNode } from "@onnx-peft/core";
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
  /** Run once only: beside the comparison that the ratios are about. */
  readonly isSecondary?: boolean;
  run(shape: ShapeName): StepFigures;
}

/** A step of the larger shape takes three times as long. */
const timedSteps = { mini: 10, base: 6 } as const;
const WARM_UP = 2;

const ours = (name: string, ...options: string[]): Side => ({
  name,
  run(shape) {
    const steps = String(timedSteps[shape] + WARM_UP);
    const output = execFileSync("node", [local("bench/dist/step.js"), shape, "--steps", steps, ...options], {
      ...{ cwd: root, encoding: "utf8" },
    });
    return JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as StepFigures;
  },
});

const once = (side: Side): Side => ({ ...side, isSecondary: true });

/** PyTorch's peak without the CUDA libraries of its default wheel, which a CPU build does not have. */
const torch = (name: string, ...options: string[]): Side => ({
  name,
  run(shape) {
    const { status, stdout, stderr } = spawnSync(
      python ?? "",
      [
        ...[local("bench/pytorch/step.py"), "--shape", shape, ...options],
        ...["--steps", String(timedSteps[shape]), "--warmup", String(WARM_UP)],
      ],
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

const reference = "PyTorch + peft float32";
const halfReference = "PyTorch + peft bfloat16 autocast";
const sides: Side[] = [
  ours("onnx-peft int8, micro-batches of 512 tokens", "--compute", "int8"),
  ours("onnx-peft float32, micro-batches of 512 tokens"),
  ...(python ? [torch(reference), torch(halfReference, "--dtype", "bfloat16")] : []),
  once(ours("onnx-peft float32, whole batch", "--micro", "100000")),
  once(ours("onnx-peft int8, a base in 4 bits", "--compute", "int8", "--storage", "int4")),
  once(ours("onnx-peft float32, a base in 4 bits", "--storage", "int4")),
  ...(python
    ? [
        once(torch("PyTorch + peft float32, micro-batches of 512 tokens", "--micro", "4")),
        once(torch("PyTorch + peft bfloat16, micro-batches of 512 tokens", "--dtype", "bfloat16", "--micro", "4")),
      ]
    : []),
];
const bits = await detectWeightBits(onnxruntimeNode);

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
const failed: string[] = [];
for (const name of values.shapes.split(",") as ShapeName[]) {
  const measured = new Map<string, StepFigures[]>();
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const side of sides) {
      if ((side.isSecondary && round > 0) || failed.includes(side.name)) continue;
      try {
        const figures = side.run(name);
        measured.set(side.name, [...(measured.get(side.name) ?? []), figures]);
        console.log(
          `${name} round ${round + 1} ${side.name}: ${figures.medianMs.toFixed(0)} ms, ${figures.peakMb.toFixed(0)} MB`,
        );
      } catch (error) {
        failed.push(side.name);
        console.error(`${name} ${side.name} failed: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  results[name] = {
    title: shapes[name].title,
    sides: Object.fromEntries([...measured].map(([side, list]) => [side, middle(list)])),
  };
  await record();
}
if (failed.length > 0) process.exitCode = 1;

async function record(): Promise<void> {
  const columns = ["step", "side", "step ms", "tokens/s", "peak MB", "time ratio", "to bfloat16", "memory ratio"];
  const ratio = (value: number, of: number | undefined): string => (of === undefined ? "-" : (value / of).toFixed(2));
  const rows = Object.values(results).flatMap(({ title, sides: measured }) => {
    const [base, half] = [measured[reference], measured[halfReference]];
    return Object.entries(measured).map(([side, f]) => [
      ...[title, side, f.medianMs.toFixed(0), String(Math.round(f.tokensPerSecond)), f.peakMb.toFixed(0)],
      ...[ratio(f.medianMs, base?.medianMs), ratio(f.medianMs, half?.medianMs), ratio(f.peakMb, base?.peakMb)],
    ]);
  });
  const cpuInfo = existsSync("/proc/cpuinfo") ? await readFile("/proc/cpuinfo", "utf8") : "";
  const flags = /^flags.*$/m.exec(cpuInfo)?.[0] ?? "";
  const features = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"].filter((f) =>
    flags.split(/\s+/).includes(f),
  );
  const machine = `${cpus()[0]?.model ?? "unknown processor"} with ${features.join(", ")}, 2 threads, weights of ${bits} bits`;
  const note =
    "LoRA r 8 on query and value, complete model with embeddings, dropout 0.1, loss and optimiser; medians of the steps, middle of the rounds. " +
    "Peak resident memory of the training process, PyTorch's without the CUDA libraries of its default wheel. Ratios are against PyTorch + peft in float32 (time, memory) and in bfloat16 in the same run.";
  await mkdir(local("bench/results"), { recursive: true });
  const content = {
    ...{ title: "One LoRA training step beside PyTorch + peft", command: "npm run bench", machine },
    ...{ table: { columns, rows }, note, figures: results },
  };
  await writeFile(local("bench/results/step.json"), `${JSON.stringify(content, null, 2)}\n`);
  for (const row of [columns, ...rows]) console.log(row.join(" | "));
}
