/**
 * One epoch of LoRA fine-tuning on real texts of variable length (the quickstart's data), tokenising, batching and evaluation
 * included, beside transformers.Trainer + peft at its defaults and at its best settings:
 *   npm run bench:epoch -- [--rounds 3] [--train 2000] [--python parity/.venv/bin/python]
 * All sides in turn, in processes of their own with two threads. Writes bench/results/epoch.json.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machineName } from "./machine.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    train: { type: "string", default: "2000" },
    python: { type: "string", default: "parity/.venv/bin/python" },
  },
});
const root = fileURLToPath(new URL("../../", import.meta.url));
const local = (path: string): string => join(root, path);
const model = local("apps/examples/models/wordnet-bert");
const python = existsSync(local(values.python)) ? local(values.python) : values.python;

interface EpochFigures {
  readonly seconds: number;
  readonly peakMb: number;
  readonly accuracy: number;
  readonly trainableParameters: number;
}

const data = await mkdtemp(join(tmpdir(), "onnx-peft-epoch-"));
/** The last line that a program prints, which is its result. */
const resultOf = (program: string, options: readonly string[]): EpochFigures => {
  const printed = execFileSync(program, options, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return JSON.parse(printed.trim().split("\n").at(-1) ?? "") as EpochFigures;
};
const ours =
  (...options: string[]) =>
  (...seed: string[]): EpochFigures =>
    resultOf("node", [local("bench/dist/epoch-ours.js"), model, data, ...options, ...seed]);
const trainer =
  (...options: string[]) =>
  (...seed: string[]): EpochFigures =>
    resultOf(python, [local("bench/pytorch/epoch.py"), "--model", model, "--data", data, ...options, ...seed]);

const reference = "transformers.Trainer + peft, defaults";
const best = "transformers.Trainer + peft, best settings (length groups, bfloat16, evaluation in batches of 64)";
const sides: Readonly<Record<string, (...seed: string[]) => EpochFigures>> = {
  "onnx-peft float32, defaults": ours(),
  "onnx-peft float32, length groups": ours("--group"),
  "onnx-peft int8, length groups": ours("--group", "--compute", "int8"),
  ...(existsSync(python) ? { [reference]: trainer(), [best]: trainer("--best") } : {}),
};

const measured = new Map<string, EpochFigures[]>();
try {
  execFileSync("node", [local("apps/examples/dist/wordnet/export-glosses.js"), data, values.train, "1000"], {
    cwd: root,
  });
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, run] of Object.entries(sides)) {
      const figures = run("--seed", String(round + 1));
      measured.set(name, [...(measured.get(name) ?? []), figures]);
      console.log(
        `round ${round + 1} ${name}: ${figures.seconds.toFixed(1)} s, ${figures.peakMb.toFixed(0)} MB, accuracy ${figures.accuracy}`,
      );
    }
  }
} finally {
  await rm(data, { recursive: true });
}

/** The fastest round: what disturbs a run only makes it slower. */
const fastest = (name: string): EpochFigures | undefined =>
  [...(measured.get(name) ?? [])].sort((a, b) => a.seconds - b.seconds).at(0);
const meanAccuracy = (name: string): number => {
  const all = (measured.get(name) ?? []).map(({ accuracy }) => accuracy);
  return all.reduce((sum, accuracy) => sum + accuracy, 0) / all.length;
};
const ratio = (value: number, of: number | undefined): string => (of === undefined ? "-" : (value / of).toFixed(2));
const columns = [
  "side",
  "epoch s",
  "peak MB",
  "accuracy",
  "time / defaults",
  "time / best settings",
  "memory / defaults",
];
const rows = Object.keys(sides).map((name) => {
  const { seconds, peakMb } = fastest(name) as EpochFigures;
  const [base, strongest] = [fastest(reference), fastest(best)];
  return [
    name,
    seconds.toFixed(1),
    peakMb.toFixed(0),
    meanAccuracy(name).toFixed(3),
    ratio(seconds, base?.seconds),
    ratio(seconds, strongest?.seconds),
    ratio(peakMb, base?.peakMb),
  ];
});
const record = {
  title: "One epoch on real texts beside transformers.Trainer + peft",
  command: "npm run bench:epoch",
  machine: machineName(),
  table: { columns, rows },
  note: `${values.train} WordNet definitions, 1,000 to evaluate, 25 categories; LoRA r 16 on all linear layers, batch 16, dropout, label smoothing. Timed is everything after the imports: loading, tokenising, one epoch, evaluation; the fastest of ${values.rounds} rounds, accuracy their mean, each with a seed of its own. Peak resident memory of the training process, PyTorch's without the CUDA libraries of its default wheel.`,
  figures: Object.fromEntries(measured),
};
await mkdir(local("bench/results"), { recursive: true });
await writeFile(local("bench/results/epoch.json"), `${JSON.stringify(record, null, 2)}\n`);
for (const row of [columns, ...rows]) console.log(row.join(" | "));
