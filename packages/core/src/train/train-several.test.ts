import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { initialSeveral, injectSeveral, memberAdapter, type SeveralChoice } from "../adapters/inject-several.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { methodOf } from "../methods/registry.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { buildAdapterProgram } from "./adapter-program.ts";
import { buildEvaluationProgram } from "./program.ts";
import { buildSeveralEvaluation, buildSeveralProgram } from "./several-program.ts";
import { type SeveralRun, type SeveralTraining, trainSeveral } from "./train-several.ts";
import { type TrainingResult, train } from "./trainer.ts";

interface Sample {
  readonly ids: readonly number[];
  readonly label: number;
}

const model = prepareModel(tinyModel());
const choice = (type: string, config: object): SeveralChoice => ({ method: methodOf(type), config });
const head = { modulesToSave: ["classifier"] };
const adapters = {
  lora: choice("LORA", { r: 3, alpha: 6, targetModules: "all-linear", ...head }),
  "a/b": choice("LORA", { r: 2, targetModules: ["query", "value"], ...head }),
  a: choice("ADALORA", { initR: 3, targetR: 2, totalStep: 9, targetModules: ["value", "up"], ...head }),
  norms: choice("LN_TUNING", { targetModules: ["LayerNorm"], ...head }),
} as const;
type Name = keyof typeof adapters;
const names = Object.keys(adapters) as Name[];

/** Sequences of one length: other trainings then pad nothing. */
function samples(seed: string, count: number, tokens = 5): Sample[] {
  const random = createRandom(streamSeed(seed, "samples"));
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: tokens }, () => random.integer(11));
    return { ids, label: ((ids[0] ?? 0) + seed.length) % 3 };
  });
}

const ints = (list: readonly number[], dims: readonly number[]): RuntimeTensor => ({
  type: "int64",
  dims,
  data: BigInt64Array.from(list, BigInt),
});
const collate = (list: readonly Sample[]): Feeds => ({
  input_ids: ints(
    list.flatMap(({ ids }) => ids),
    [list.length, list[0]?.ids.length ?? 0],
  ),
  labels: ints(
    list.map(({ label }) => label),
    [list.length],
  ),
});

/** What differs between the trainings: numbers of samples and steps, batches, optimisers, schedules, norms, evaluations. */
const trainings: Readonly<Record<Name, SeveralTraining<Sample>>> = Object.fromEntries(
  names.map((name, i) => {
    const own: SeveralTraining<Sample> = {
      data: { samples: samples(name, 12 + 4 * i), lengthOf: ({ ids }) => ids.length, collate },
      options: {
        epochs: [3, 2, 3, 1.5][i]!,
        batchSize: [4, 8, 5, 3][i]!,
        seed: 10 + i,
        optimizer:
          i === 1 ? { type: "sgd", learningRate: 0.1, momentum: 0.9 } : { type: "adamw", learningRate: 0.01 * (i + 1) },
        ...(i === 2 ? { maxGradNorm: 0.5 } : {}),
        ...(i === 0 ? { schedule: { type: "linear", warmupSteps: 2 } } : {}),
        evalSteps: [2, 3, 5, 4][i]!,
      },
      async evaluate(run) {
        const { logits } = await run({ input_ids: collate(samples(`${name}:test`, 6)).input_ids! });
        return { loss: (logits!.data as Float32Array).reduce((sum, v) => sum + v * v, 0) };
      },
    };
    return [name, own];
  }),
) as Record<Name, SeveralTraining<Sample>>;

const several = injectSeveral(model, { adapters, wantedOutputs: ["logits"], training: true });
const program = buildSeveralProgram(several, ({ g, outputs, input }) =>
  crossEntropy(g, { logits: outputs.get("logits")!, labels: input("labels", "int64") }),
);
const evaluated = injectSeveral(model, { adapters, wantedOutputs: ["logits"] });
const evaluation = buildSeveralEvaluation(evaluated, { logits: evaluated.outputs.get("logits")! });
const seeds = Object.fromEntries(names.map((name, i) => [name, i + 1]));
const run = (changes: Partial<SeveralRun<Sample>> = {}): SeveralRun<Sample> => ({
  training: program,
  evaluation,
  parameters: initialSeveral(several, seeds),
  members: trainings,
  ...changes,
  options: {
    threads: 1,
    isolation: "inline",
    availableMemory: "unlimited",
    microBatchTokens: 80,
    saveSteps: 2,
    ...changes.options,
  },
});

/** The same training without the others. */
async function alone(name: Name, changes: Partial<SeveralTraining<Sample>["options"]> = {}): Promise<TrainingResult> {
  const { method, config } = adapters[name];
  const adapted = injectAdapter(model, { method, config, wantedOutputs: ["logits"], training: true });
  const labels = adapted.g.input("labels", "int64", ["batch"]);
  const training = buildAdapterProgram(
    adapted,
    crossEntropy(adapted.g, { logits: adapted.outputs.get("logits")!, labels }),
  );
  const judged = injectAdapter(model, { method, config, wantedOutputs: ["logits"] });
  const start = initialParameters(adapted, seeds[name]!);
  const { options, ...own } = trainings[name];
  return train({
    training,
    evaluation: buildEvaluationProgram(
      judged.g,
      { logits: judged.outputs.get("logits")! },
      judged.parameters.map((p) => judged.g.value(p.name)),
    ),
    parameters: Object.fromEntries(
      adapted.parameters.map((p) => [p.name, { type: "float32", dims: p.shape, data: start.get(p.name)! }]),
    ),
    ...own,
    options: {
      ...{ ...options, ...changes },
      ...{ threads: 1, isolation: "inline", availableMemory: "unlimited", microBatchTokens: 20 },
    },
  });
}

const difference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), a.length === b.length ? 0 : Number.POSITIVE_INFINITY);

describe("several adapters trained at once", () => {
  let results: Record<string, TrainingResult>;
  const events: string[] = [];
  beforeAll(async () => {
    results = await trainSeveral(run({ onEvent: ({ type, member }) => void events.push(`${member} ${type}`) }));
  });

  test.each(names)("%s goes as it would alone", async (name) => {
    const [found, expected] = [results[name]!, await alone(name)];
    expect(found.steps).toBe(expected.steps);
    expect(found.reason).toBe("finished");
    expect(difference(Float32Array.from(found.losses), Float32Array.from(expected.losses))).toBeLessThan(1e-5);
    expect(found.evaluations.map(({ step }) => step)).toEqual(expected.evaluations.map(({ step }) => step));
    expect(found.best?.step).toBe(expected.best?.step);
    const member = several.members.get(name)!;
    const adapter = memberAdapter(member, found.parameters);
    expect([...adapter.tensors.keys()].every((tensor) => Object.hasOwn(expected.parameters, tensor))).toBe(true);
    for (const [tensor, { data }] of adapter.tensors)
      expect(difference(data, expected.parameters[tensor]!.data as Float32Array), tensor).toBeLessThan(2e-5);
    expect(events).toContain(`${name} progress`);
    expect(events).toContain(`${name} evaluation`);
  });
});

test("gradients are those of separate trainings", async () => {
  // One step of plain SGD at learning rate 1 moves parameters by their gradient.
  const plain = { epochs: 0.01, optimizer: { type: "sgd", learningRate: 1 } } as const;
  const members = Object.fromEntries(
    names.map((name) => [name, { ...trainings[name], options: { ...trainings[name].options, ...plain } }]),
  );
  const results = await trainSeveral(run({ members }));
  for (const name of names) {
    const expected = await alone(name, plain);
    for (const [tensor, { data }] of memberAdapter(several.members.get(name)!, results[name]!.parameters).tensors)
      expect(difference(data, expected.parameters[tensor]!.data as Float32Array), tensor).toBeLessThan(1e-6);
  }
});

describe("interrupted and continued", () => {
  const folders: string[] = [];
  afterAll(async () => {
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  });
  const newFolder = async (): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), "several-"));
    folders.push(folder);
    return folder;
  };
  let whole: Record<string, TrainingResult>;
  beforeAll(async () => {
    whole = await trainSeveral(run());
  });
  const expectWhole = (found: Record<string, TrainingResult>): void => {
    for (const name of names) {
      expect(found[name]!.parameters, name).toEqual(whole[name]!.parameters);
      expect(found[name]!.losses).toEqual(whole[name]!.losses);
      expect(found[name]!.evaluations).toEqual(whole[name]!.evaluations);
    }
  };

  test("cancelled: all stop at the same step, and the rest is equal to the bit", async () => {
    const folder = await newFolder();
    const stop = new AbortController();
    const cut = await trainSeveral(
      run({
        folder,
        signal: stop.signal,
        onEvent: (event) => {
          if (event.type === "progress" && event.member === "norms" && event.step === 1) stop.abort();
        },
      }),
    );
    expect(new Set(names.map((name) => cut[name]!.reason))).toEqual(new Set(["cancelled"]));
    expect(new Set(names.map((name) => cut[name]!.steps)).size).toBe(1);
    expect((await readdir(join(folder, "metrics"))).sort()).toContain("a%2Fb.jsonl");
    expectWhole(await trainSeveral(run({ folder })));
    // Once more: everything is done already.
    expectWhole(await trainSeveral(run({ folder })));
  });

  test("broken off by an error after one had ended: continued from the last checkpoint of all", async () => {
    const folder = await newFolder();
    const last = Math.max(...names.map((name) => whole[name]!.steps));
    const broken = trainSeveral(
      run({
        folder,
        onEvent: (event) => {
          if (event.type === "progress" && event.step === last - 1) throw new Error("broken off");
        },
      }),
    );
    await expect(broken).rejects.toThrow("broken off");
    expectWhole(await trainSeveral(run({ folder })));
  });

  test("another run in the folder is refused", async () => {
    const folder = await newFolder();
    await trainSeveral(run({ folder }));
    const other = { ...trainings, lora: { ...trainings.lora, options: { ...trainings.lora.options, seed: 99 } } };
    await expect(trainSeveral(run({ folder, members: other }))).rejects.toMatchObject({ code: "RESUME_MISMATCH" });
  });
});

describe("rows of different lengths", () => {
  test("are padded as said, and refused where nothing is said", async () => {
    const members = {
      ...trainings,
      norms: { ...trainings.norms, data: { ...trainings.norms.data, samples: samples("norms", 9, 4) } },
    };
    const refused = trainSeveral(run({ members }));
    await expect(refused).rejects.toMatchObject({
      code: "PADDING_UNKNOWN",
      message: expect.stringContaining("input_ids"),
    });
    const results = await trainSeveral(run({ members, padding: { input_ids: 0 } }));
    expect(results["norms"]?.reason).toBe("finished");
  });

  test("members that are not the program's are refused", async () => {
    const { norms: _, ...others } = trainings;
    await expect(trainSeveral(run({ members: others }))).rejects.toMatchObject({ code: "ADAPTER_NAME" });
  });
});
