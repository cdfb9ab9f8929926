/**
 * What several adapters cost at once, in seconds of the processor:
 *   npm run bench:several -- [--rounds 8] [--shape mini]
 * Training: one adapter over a batch, eight adapters over the same number of rows in one graph, and eight trainings one after the
 * other over an eighth of the rows each. Serving: the model, one adapter, eight adapters in one batch. Changing an adapter between two
 * runs of one session. All sides in turn in this process, one thread; the least of the rounds counts. Writes bench/results/several.json.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  type Adapter,
  adapterFeeds,
  adapterOf,
  buildAdapterProgram,
  buildSeveralProgram,
  createEngine,
  createMixedSet,
  createRandom,
  crossEntropy,
  encodeModel,
  type Feeds,
  initialParameters,
  initialSeveral,
  injectAdapter,
  injectSeveral,
  lora,
  type Model,
  makeMixedSwappable,
  makeSwappable,
  onnxruntimeNode,
  parameterTensors,
  type RuntimeTensor,
  type Value,
} from "@onnx-peft/core";
import { loadTextModel, sequenceClassification } from "@onnx-peft/text";
import { machineName } from "./machine.ts";
import { writeRandomModel } from "./random-model.ts";
import { type ShapeName, shapes } from "./shapes.ts";

const { values: args } = parseArgs({
  options: { rounds: { type: "string", default: "8" }, shape: { type: "string", default: "mini" } },
});
const local = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const shape = shapes[args.shape as ShapeName];
const { batch, tokens } = shape;
const COUNT = 8;
const names = Array.from({ length: COUNT }, (_, i) => `adapter ${i + 1}`);
const choice = { method: lora, config: { r: 8, alpha: 16, targetModules: ["query", "value"] } };
const wantedOutputs = ["logits"];

/** Feeds of `rows` rows that the model, and a loss of its labels, take. */
function feedsOf(model: Model, rows: number): Record<string, RuntimeTensor> {
  const random = createRandom(rows);
  const ints = (dims: readonly number[], fill: () => number): RuntimeTensor => {
    const length = dims.reduce((a, b) => a * b, 1);
    return { type: "int64", dims, data: BigInt64Array.from({ length }, () => BigInt(fill())) };
  };
  const inputs = model.graph.inputs.map(({ name }): [string, RuntimeTensor] => {
    const fill = name.includes("mask") ? () => 1 : name.includes("type") ? () => 0 : () => 5 + random.integer(900);
    return [name, ints([rows, tokens], fill)];
  });
  return { ...Object.fromEntries(inputs), labels: ints([rows], () => random.integer(2)) };
}

const logitsOf = (outputs: ReadonlyMap<string, Value>): Value => {
  const logits = outputs.get("logits");
  if (!logits) throw new Error("the model has logits");
  return logits;
};
const common = { seed: 1, threads: 1 } as const;
const optimizer = { type: "adamw", learningRate: 1e-4 } as const;

/** A step of one adapter over `rows` rows. */
async function oneTraining(model: Model, rows: number): Promise<() => Promise<unknown>> {
  const adapted = injectAdapter(model, { ...choice, wantedOutputs, training: true });
  const logits = logitsOf(adapted.outputs);
  const labels = adapted.g.input("labels", "int64", [logits.shape[0] ?? "batch"]);
  const parameters = parameterTensors(adapted.parameters, initialParameters(adapted, 1));
  const training = buildAdapterProgram(adapted, crossEntropy(adapted.g, { logits, labels }));
  const engine = await createEngine(onnxruntimeNode, { training, parameters, optimizer, ...common });
  const runs = [feedsOf(model, rows)];
  let step = 0;
  return () => engine.step({ step: step++, runs, learningRateScale: 1 });
}

/** A step of eight adapters, `rows` rows in all. */
async function severalTrainings(model: Model, rows: number): Promise<() => Promise<unknown>> {
  const adapters = Object.fromEntries(names.map((name) => [name, choice]));
  const several = injectSeveral(model, { adapters, wantedOutputs, training: true });
  const training = buildSeveralProgram(several, ({ g, outputs, input }) =>
    crossEntropy(g, { logits: logitsOf(outputs), labels: input("labels", "int64") }),
  );
  const engine = await createEngine(onnxruntimeNode, {
    training,
    parameters: initialSeveral(several, 1),
    members: Object.fromEntries(names.map((name) => [name, { optimizer, seed: 1 }])),
    ...common,
  });
  const each = rows / COUNT;
  const ownRows = names.map((name, i): [string, RuntimeTensor] => [
    `adapter_rows.${name}`,
    { type: "int64", dims: [each], data: BigInt64Array.from({ length: each }, (_, k) => BigInt(i * each + k)) },
  ]);
  const runs = [{ ...feedsOf(model, rows), ...Object.fromEntries(ownRows) }];
  let step = 0;
  return () => {
    const own = { step: step++, learningRateScale: 1 };
    return engine.step({ ...own, runs, members: Object.fromEntries(names.map((name) => [name, own])) });
  };
}

/** An adapter with values as after training. */
function randomAdapter(model: Model, seed: number): Adapter {
  const adapted = injectAdapter(model, choice);
  const random = createRandom(seed);
  const values = [...initialParameters(adapted, seed)].map(
    ([name, data]) => [name, random.fillNormal(data, 0, 0.02)] as const,
  );
  return adapterOf(adapted, new Map(values));
}

async function serving(model: Model): Promise<Record<string, () => Promise<unknown>>> {
  const open = async (served: Model, feeds: () => Feeds): Promise<() => Promise<unknown>> => {
    const session = await onnxruntimeNode.open(encodeModel(served), { threads: 1, purpose: "serving" });
    return () => session.run(feeds());
  };
  const { labels: _, ...inputs } = feedsOf(model, batch);
  const swappable = makeSwappable(model, choice);
  const mixed = makeMixedSwappable(model, { ...choice, places: COUNT });
  const set = createMixedSet(mixed);
  const adapters = names.map((name, i) => {
    const adapter = randomAdapter(model, i + 1);
    set.add(name, adapter);
    return adapter;
  });
  const prepared = adapters.map((adapter) => adapterFeeds(swappable, adapter));
  const rows = Array.from({ length: batch }, (_, i) => names[(5 * i) % COUNT] ?? "");
  let next = 0;
  return {
    "the model without adapters": await open(model, () => inputs),
    "one adapter": await open(swappable.model, () => ({ ...inputs, ...prepared[0] })),
    "another adapter in every run": await open(swappable.model, () => ({ ...inputs, ...prepared[next++ % COUNT] })),
    "eight adapters in one batch": await open(mixed.model, () => ({ ...inputs, ...set.feeds(rows) })),
  };
}

const folder = await mkdtemp(join(tmpdir(), "onnx-peft-several-"));
await writeRandomModel(folder, shape.config);
const task = sequenceClassification({ labels: ["no", "yes"] });
const { model } = await loadTextModel({ model: folder }, task.head);
const eighth = await oneTraining(model, batch / COUNT);
const sides: Readonly<Record<string, () => Promise<unknown>>> = {
  "training: one adapter": await oneTraining(model, batch),
  "training: eight adapters at once": await severalTrainings(model, batch),
  "training: eight adapters one after the other": async () => {
    for (let i = 0; i < COUNT; i++) await eighth();
  },
  ...Object.fromEntries(Object.entries(await serving(model)).map(([name, side]) => [`serving: ${name}`, side])),
};

const least = new Map<string, number>();
try {
  for (let round = 0; round <= Number(args.rounds); round++) {
    for (const [name, side] of Object.entries(sides)) {
      const before = process.cpuUsage();
      await side();
      const { user, system } = process.cpuUsage(before);
      // The first round warms up.
      if (round > 0) least.set(name, Math.min(least.get(name) ?? Number.POSITIVE_INFINITY, (user + system) / 1000));
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

const columns = ["", "CPU ms", "relative to one adapter"];
const rows = [...least].map(([name, ms]) => {
  const one = least.get(`${name.split(":")[0]}: one adapter`) ?? Number.NaN;
  return [name, ms.toFixed(0), (ms / one).toFixed(2)];
});
const note =
  `${shape.title} in all, LoRA r 8 on query and value, AdamW, one thread. Training: a step; eight at once have ${batch / COUNT} rows each in one ` +
  "run of one graph, as many rows as the one adapter has; one after the other they make eight runs. Serving: a run; adapters are fed, so " +
  "changing one is feeding others. Seconds of the processor, the least of the rounds.";
await mkdir(local("bench/results"), { recursive: true });
const content = {
  ...{ title: "Several adapters at once", command: "npm run bench:several", machine: machineName() },
  ...{ table: { columns, rows }, note, figures: Object.fromEntries(least) },
};
await writeFile(local("bench/results/several.json"), `${JSON.stringify(content, null, 2)}\n`);
for (const row of [columns, ...rows]) console.log(row.join(" | "));
