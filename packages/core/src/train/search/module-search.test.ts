import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { initialParameters } from "../../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter } from "../../adapters/inject.ts";
import type { AdapterConfigInput } from "../../adapters/select.ts";
import { tinyModel } from "../../adapters/testing/tiny-model.ts";
import { differentiate } from "../../autodiff/differentiate.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import { lora } from "../../methods/lora.ts";
import type { Method } from "../../methods/method.ts";
import { encodeModel } from "../../onnx/write.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { openBuilder, runBuilder } from "../../testing/run-graph.ts";
import { buildAdapterProgram } from "../adapter-program.ts";
import { createEngine } from "../engine.ts";
import { GATES, gatedLora } from "./gated-lora.ts";
import { inTurns, type ModuleSearch, searchModules } from "./module-search.ts";
import { gatesOf } from "./module-table.ts";

const model = prepareModel(tinyModel());
const ids: RuntimeTensor = { type: "int64", dims: [2, 3], data: BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n) };
const fields = { r: 2, alpha: 4, targetModules: "all-linear" } as const;

const inject = (method: Method, config: object): AdaptedGraph =>
  injectAdapter(model, { method, config: config as AdapterConfigInput, wantedOutputs: ["logits"] });
const gated = (relaxation: string, more: object = {}): AdaptedGraph =>
  inject(gatedLora as unknown as Method, { ...fields, relaxation, searchSteps: 4, ...more });

/** Start values with every B moved. */
function moved(adapted: AdaptedGraph): Map<string, Float32Array> {
  const random = testRandom(3);
  return new Map(
    [...initialParameters(adapted, 1)].map(([name, v]) => [
      name,
      name.endsWith("lora_B.weight") ? v.map(() => random() - 0.5) : v,
    ]),
  );
}

const feedsOf = (adapted: AdaptedGraph, values: ReadonlyMap<string, { data: unknown } | Float32Array>): Feeds => ({
  input_ids: ids,
  ...Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => {
      const value = values.get(name)!;
      return [
        name,
        { type: "float32", dims: shape, data: (value instanceof Float32Array ? value : value.data) as Float32Array },
      ];
    }),
  ),
});

async function logitsOf(
  adapted: AdaptedGraph,
  values: ReadonlyMap<string, { data: unknown } | Float32Array>,
): Promise<Float32Array> {
  const again = inject(adapted.method, adapted.config);
  again.g.output(again.outputs.get("logits")!, "logits");
  return (await runBuilder(again.g, feedsOf(adapted, values)))["logits"]?.data as Float32Array;
}

const gap = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

describe("gates", () => {
  test("all 1: LoRA to the bit; all 0: the base", async () => {
    const one = gated("none");
    const values = moved(one);
    expect(values.get(GATES)?.every((v) => v === 1)).toBe(true);
    const plain = inject(lora as unknown as Method, fields);
    expect(await logitsOf(one, values)).toEqual(await logitsOf(plain, values));
    const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    const base = (await session.run({ input_ids: ids }, ["logits"]))["logits"]?.data;
    await session.close();
    const zero = new Map([...values, [GATES, new Float32Array(12)]]);
    expect(await logitsOf(one, zero)).toEqual(base);
    expect(await logitsOf(one, values)).not.toEqual(base);
  });

  test.each(["sigmoid", "rowSoftmax", "none"] as const)(
    "%s: gradients of the logits, and none while B is 0",
    async (relaxation) => {
      const adapted = gated(relaxation);
      const { g, outputs } = adapted;
      const logits = outputs.get("logits")!;
      const loss = g.reduceSum(g.mul(logits, logits), [0, 1], false);
      const [d] = differentiate(g, [{ value: loss }], [g.value(GATES)]);
      g.output(loss, "loss");
      g.output(d!, "d");
      const random = testRandom(8);
      const values = moved(adapted);
      const start = values.get(GATES)!.map(() => random() - 0.5);
      const session = await openBuilder(g);
      const at = (gates: Float32Array, of = values) => {
        const feeds = feedsOf(adapted, new Map([...of, [GATES, gates]]));
        return session.run(Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!])));
      };
      const found = (await at(start))["d"]!.data as Float32Array;
      const h = 0.02;
      for (const i of start.keys()) {
        const lossAt = async (by: number): Promise<number> =>
          Number((await at(start.map((v, k) => (k === i ? v + by : v))))["loss"]!.data[0]);
        const difference =
          (8 * ((await lossAt(h)) - (await lossAt(-h))) - (await lossAt(2 * h)) + (await lossAt(-2 * h))) / (12 * h);
        expect(Math.abs(difference - found[i]!)).toBeLessThan(2e-3 * Math.max(...found.map(Math.abs)));
      }
      const fresh = (await at(start, initialParameters(adapted, 1)))["d"]!.data as Float32Array;
      expect(fresh.every((v) => v === 0)).toBe(true);
      await session.close();
    },
  );

  test("the graph and the host make the same gates", async () => {
    const names = gated("none").plans.map((plan) => plan.site.name);
    const random = testRandom(4);
    const logits = Float32Array.from(names, () => 4 * random() - 2);
    for (const relaxation of ["sigmoid", "rowSoftmax"] as const) {
      const adapted = gated(relaxation);
      const values = new Map([...moved(adapted), [GATES, logits]]);
      const host = new Map([...values, [GATES, Float32Array.from(gatesOf(names, logits, relaxation))]]);
      expect(gap(await logitsOf(adapted, values), await logitsOf(gated("none"), host))).toBeLessThan(1e-5);
    }
  });
});

type Sample = { readonly ids: readonly number[]; readonly label: number; readonly index: number };
const samples: Sample[] = Array.from({ length: 24 }, (_, index) => {
  const list = [index % 11, (3 * index) % 11, (7 * index + 1) % 11];
  return { ids: list, label: (list[0]! + list[1]!) % 3, index };
});

function searchOf(changes: Omit<Partial<ModuleSearch<Sample>>, "config"> & { config?: object } = {}) {
  const seen = { weights: new Set<number>(), gates: new Set<number>() };
  const { config, ...rest } = changes;
  const search: ModuleSearch<Sample> = {
    model,
    config: {
      ...fields,
      searchSteps: 8,
      evalSteps: 2,
      gateLearningRate: 0.05,
      ...config,
    } as ModuleSearch<Sample>["config"],
    wantedOutputs: ["logits"],
    loss(adapted) {
      const logits = adapted.outputs.get("logits")!;
      const labels = adapted.g.input("labels", "int64", [logits.shape[0] ?? "batch"]);
      return crossEntropy(adapted.g, { logits, labels });
    },
    data: {
      samples,
      lengthOf: ({ ids: list }) => list.length,
      collate(some, key) {
        for (const { index } of some) seen[key.startsWith("gates.") ? "gates" : "weights"].add(index);
        return {
          input_ids: {
            type: "int64",
            dims: [some.length, 3],
            data: BigInt64Array.from(some.flatMap((s) => s.ids.map(BigInt))),
          },
          labels: { type: "int64", dims: [some.length], data: BigInt64Array.from(some, (s) => BigInt(s.label)) },
        };
      },
    },
    classOf: ({ label }) => label,
    options: {
      ...{ batchSize: 6, isolation: "inline", threads: 1, seed: 5 },
      optimizer: { type: "adamw", learningRate: 0.02 },
      schedule: { type: "linear" },
    },
    ...rest,
  };
  return { search, seen };
}

describe("the search", () => {
  test("weights and gates see different samples; the kept modules go on where they are", async () => {
    const { search, seen } = searchOf();
    const found = await searchModules(search);
    expect(seen.weights.size).toBe(12);
    expect(seen.gates.size).toBe(12);
    expect([...seen.weights].filter((index) => seen.gates.has(index))).toEqual([]);
    expect(found.modules).toHaveLength(12);
    expect(found.selected).toHaveLength(6);
    expect(found.config).toMatchObject({ r: 2, alpha: 4, targetModules: found.selected });
    expect(found.history.map((look) => look.step)).toEqual([2, 4, 6, 8]);
    expect(found.table.layers).toEqual(["encoder.layer.0", "encoder.layer.1"]);
    expect(found.searchedParameters).toBe(
      12 + found.modules.reduce((sum, { name }) => sum + 2 * (/intermediate|layer.\d.output/.test(name) ? 20 : 16), 0),
    );
    const gates = found.modules.map(({ gate }) => gate);
    expect(new Set(gates).size).toBe(12);

    // The dropped modules closed, the searched model is the LoRA that begins the second stage.
    const kept = new Set(found.selected);
    const adapted = gated("none");
    const closed = Float32Array.from(found.modules, ({ name, gate }) => (kept.has(name) ? gate : 0));
    const searched = await searchModules({
      ...search,
      config: { ...search.config, ratio: 1, relaxation: "none", gateLearningRate: 1e-12, gateWeightDecay: 0 },
    });
    expect(searched.selected).toHaveLength(12);
    // Where all gates are 1 nothing is folded.
    const all = inject(lora as unknown as Method, searched.config);
    const open = new Map([
      ...initialParameters(adapted, 5),
      ...searched.start,
      [GATES, new Float32Array(12).fill(1)],
    ] as [string, Float32Array][]);
    expect(gap(await logitsOf(all, searched.start), await logitsOf(adapted, open))).toBeLessThan(1e-6);

    const stage = inject(lora as unknown as Method, found.config);
    const unfolded = new Map(
      [...found.start].map(([name, { data }]) => {
        const gate = found.modules.find((module) => name.startsWith(`${module.name}.`))?.gate ?? 1;
        return [name, name.endsWith("lora_B.weight") ? data.map((v) => v / gate) : data] as const;
      }),
    );
    const inSearch = new Map([...initialParameters(adapted, 5), ...unfolded, [GATES, closed]] as [
      string,
      Float32Array,
    ][]);
    expect(gap(await logitsOf(stage, found.start), await logitsOf(adapted, inSearch))).toBeLessThan(1e-6);
    const plans = stage.plans.filter((plan) => plan.method.type === "LORA");
    expect(plans.map((plan) => plan.site.name).sort()).toEqual([...found.selected].sort());
  });

  test("a turn moves its own parameters and no others, to the bit", async () => {
    const { search } = searchOf();
    const adapted = injectAdapter(model, {
      method: gatedLora as unknown as Method,
      config: search.config as AdapterConfigInput,
      wantedOutputs: ["logits"],
      training: true,
    });
    const training = inTurns(buildAdapterProgram(adapted, search.loss(adapted)));
    const start = initialParameters(adapted, 1);
    const engine = await createEngine(onnxruntimeNode, {
      training,
      parameters: Object.fromEntries(
        adapted.parameters.map(({ name, shape }) => [
          name,
          { type: "float32", dims: shape, data: start.get(name)! } as const,
        ]),
      ),
      members: {
        weights: { optimizer: { type: "adamw", learningRate: 0.05, weightDecay: 0.1 }, seed: 1 },
        gates: { optimizer: { type: "adamw", learningRate: 0.1, weightDecay: 0.1 }, seed: 1 },
      },
      ...{ seed: 1, threads: 1 },
    });
    const runs = [search.data.collate(samples.slice(0, 6), "x")];
    const parameters = async () => (await engine.state()).parameters;
    for (let step = 0; step < 4; step++) {
      const turn = step % 2 === 0 ? "weights" : "gates";
      const before = await parameters();
      const ahead = step === 3 ? { ahead: { member: "weights", runs, learningRate: 0.05 } } : {};
      const own = { step, learningRateScale: 1 };
      await engine.step({ ...own, runs, members: { [turn]: own }, ...ahead });
      const after = await parameters();
      for (const name of training.parameters) {
        const moves = (name === GATES) === (turn === "gates");
        if (moves) expect(after[name]?.data, `${step} ${name}`).not.toEqual(before[name]?.data);
        else expect(after[name]?.data, `${step} ${name}`).toEqual(before[name]?.data);
      }
    }
    await engine.close();
  });

  test("stopped and taken up again it finds the same, bit for bit, also one step ahead", async () => {
    for (const order of [1, 2] as const) {
      const root = mkdtempSync(join(tmpdir(), "onnx-peft-search-"));
      const config = { order, relaxation: "rowSoftmax", searchSteps: 4 };
      const whole = await searchModules(searchOf({ config }).search);
      const stop = new AbortController();
      const stopped = await searchModules(
        searchOf({
          config,
          folder: root,
          signal: stop.signal,
          onEvent: ({ step }) => {
            if (step === 2) stop.abort();
          },
        }).search,
      );
      expect([stopped.finished, stopped.steps]).toEqual([false, 2]);
      const resumed = await searchModules(searchOf({ config, folder: root }).search);
      expect(resumed).toEqual(whole);
      await expect(
        searchModules(searchOf({ config: { ...config, ratio: 0.25 }, folder: root }).search),
      ).rejects.toMatchObject({
        code: "RESUME_MISMATCH",
      });
      rmSync(root, { recursive: true });
    }
  });

  test("ends when the kept modules stay the same; fresh weights start no module", async () => {
    const { search } = searchOf({
      config: { stableFor: 2, relaxation: "none", gateLearningRate: 1e-12, evalSteps: 1, weights: "fresh" },
    });
    const found = await searchModules(search);
    expect(found.steps).toBeLessThan(8);
    expect(found.history.at(-1)?.stable).toBe(2);
    expect([...found.start.keys()]).toEqual([]);
    await expect(
      searchModules({ ...search, data: { ...search.data, samples: samples.slice(0, 1) } }),
    ).rejects.toMatchObject({
      code: "NO_DATA",
    });
  });
});
