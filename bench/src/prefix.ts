/**
 * Time of an epoch when only the last layer is adapted, with the activations below kept or computed each time:
 *   npm run bench:prefix -- [--samples 256] [--epochs 3] [--rounds 2] [--threads 2]
 * On the quickstart's encoder, with random texts of 8 to 64 tokens; all sides in turn, each in a process of its own. Counted are
 * the epochs after the first; the pass that fills the cache is a column of its own. Writes bench/results/prefix.json.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createRandom, type TrainOptionsInput } from "@onnx-peft/core";
import { fineTune, loadTextModel, sequenceClassification } from "@onnx-peft/text";
import { machineName } from "./machine.ts";

const { values } = parseArgs({
  options: {
    samples: { type: "string", default: "256" },
    epochs: { type: "string", default: "3" },
    rounds: { type: "string", default: "2" },
    threads: { type: "string", default: "2" },
  },
});
const local = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const [count, epochs] = [Number(values.samples), Number(values.epochs)];
const task = sequenceClassification({ labels: ["no", "yes"] });
const model = await loadTextModel({ model: local("apps/examples/models/wordnet-bert") }, task.head);
const random = createRandom(1);
const layers = Number(model.config["num_hidden_layers"]);
const vocabulary = Number(model.config["vocab_size"]);
const samples = Array.from({ length: count }, () => ({
  inputIds: Int32Array.from({ length: 8 + random.integer(57) }, () => 5 + random.integer(vocabulary - 5)),
  label: random.integer(2),
}));
const folder = await mkdtemp(join(tmpdir(), "onnx-peft-prefix-"));
const sides: Readonly<Record<string, Pick<TrainOptionsInput, "prefixCache" | "prefixDropout">>> = {
  "computed each time": {},
  "kept in memory": { prefixCache: "memory", prefixDropout: "off" },
  "kept in a file": { prefixCache: { folder }, prefixDropout: "off" },
  "kept in a file, float16": { prefixCache: { folder, precision: "float16" }, prefixDropout: "off" },
};

interface Figures {
  /** Of one epoch after the first. */
  readonly epochMs: number;
  readonly fillMs: number;
  readonly keptMb: number;
  readonly peakMb: number;
}

async function measure(options: Pick<TrainOptionsInput, "prefixCache" | "prefixDropout">): Promise<Figures> {
  const started = performance.now();
  const ends = new Map<number, number>();
  let [filled, keptBytes] = [started, 0];
  const tuned = await fineTune({
    model,
    task,
    train: samples,
    adapter: { r: 8, alpha: 16, targetModules: `.*layer\\.${layers - 1}\\..*(query|value|dense)` },
    options: {
      ...options,
      epochs,
      batchSize: 16,
      threads: Number(values.threads),
      optimizer: { type: "adamw", learningRate: 1e-4 },
    },
    onEvent(event) {
      if (event.type === "prefix") [filled, keptBytes] = [performance.now(), event.bytes];
      if (event.type === "progress") ends.set(event.step, performance.now());
    },
  });
  await tuned.close();
  const steps = Math.ceil(count / 16);
  const epochMs = ((ends.get(steps * epochs) ?? 0) - (ends.get(steps) ?? 0)) / (epochs - 1);
  const { peakRssBytes } = tuned.training;
  return { epochMs, fillMs: filled - started, keptMb: keptBytes / 2 ** 20, peakMb: peakRssBytes / 2 ** 20 };
}

const measured = new Map<string, Figures[]>();
try {
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, options] of Object.entries(sides)) {
      const figures = await measure(options);
      measured.set(name, [...(measured.get(name) ?? []), figures]);
      console.log(`round ${round + 1} ${name}: ${figures.epochMs.toFixed(0)} ms an epoch`);
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

const least = (list: readonly Figures[], field: keyof Figures): number => Math.min(...list.map((f) => f[field]));
const figures = Object.fromEntries(
  [...measured].map(([name, list]): [string, Figures] => [
    name,
    {
      epochMs: least(list, "epochMs"),
      fillMs: least(list, "fillMs"),
      keptMb: least(list, "keptMb"),
      peakMb: least(list, "peakMb"),
    },
  ]),
);
const base = figures["computed each time"]?.epochMs ?? Number.NaN;
const columns = [
  "activations below the last layer",
  "epoch ms",
  "time ratio",
  "start and fill ms",
  "kept MB",
  "peak MB",
];
const rows = Object.entries(figures).map(([name, f]) => [
  ...[name, f.epochMs.toFixed(0), (f.epochMs / base).toFixed(2)],
  ...[f.fillMs.toFixed(0), f.keptMb.toFixed(1), f.peakMb.toFixed(0)],
]);
const note =
  `LoRA r 8 on the last of ${layers} layers of the quickstart's encoder, ${count} random texts of 8 to 64 tokens, batches of 16; epochs after the first, ` +
  "the fastest of the rounds. The cache leaves out dropout below the last layer. Start and fill: from the call to the first step, " +
  "with opening the lower graph. Peak resident memory of the process that trains; what is kept in memory lies in the caller's.";
await mkdir(local("bench/results"), { recursive: true });
const content = {
  ...{ title: "Epochs with kept activations", command: "npm run bench:prefix", machine: machineName() },
  ...{ table: { columns, rows }, note, figures },
};
await writeFile(local("bench/results/prefix.json"), `${JSON.stringify(content, null, 2)}\n`);
for (const row of [columns, ...rows]) console.log(row.join(" | "));
