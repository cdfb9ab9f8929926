import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters, trainedCount } from "../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import { type AdapterConfigInput, methodConfig } from "../adapters/select.ts";
import type { SiteShape } from "../adapters/site.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { triAdaptToLora } from "../adapters/tri-adapt-to-lora.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { meanSquaredError } from "../losses/mean-squared-error.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { buildAdapterProgram } from "../train/adapter-program.ts";
import { createEngine } from "../train/engine.ts";
import { lora } from "./lora.ts";
import type { AdapterTensor, ByRole } from "./method.ts";
import { parameterCount } from "./method.ts";
import type { HookSite } from "./step-hooks.ts";
import { tinyTraining } from "./testing/tiny-training.ts";
import { keepTriangle, normPerBlock } from "./tri-adapt-blocks.ts";
import { blocksOf, type TriAdaptConfig, triAdaptConfig, triAdaptScale } from "./tri-adapt-config.ts";
import { createGrowth, growingCount, growingSites, isGrowthDue, shares } from "./tri-adapt-growth.ts";
import { triAdaptLora } from "./tri-adapt-lora.ts";

const site = (name: string, inFeatures = 5, outFeatures = 4): SiteShape => ({
  ...{ name, kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: false },
});
const roles = ["A", "B", "L", "U", "scale"];

/** Start values of some modules, as an engine holds them, and hooks over them. */
function growing(fields: Partial<TriAdaptConfig>, names = ["a"], totalSteps = 10) {
  const config = triAdaptConfig.parse(fields);
  const random = createRandom(7);
  const values = new Map<string, Float32Array>();
  const sites = names.map((name): HookSite<TriAdaptConfig> => {
    const specs = triAdaptLora.parameters(site(name), config, []);
    for (const role of roles) {
      const { shape, init } = specs[role]!;
      values.set(`${name}.${role}`, init({ shape, random, base: () => new Float32Array() }));
    }
    return { site: site(name), config, names: Object.fromEntries(roles.map((role) => [role, `${name}.${role}`])) };
  });
  const hooks = createGrowth({ config, sites, values, totalSteps, seed: 3 });
  const rankOf = (name: string): number => values.get(`${name}.A`)!.length / 5;
  const tensors = (name: string): ByRole<AdapterTensor> => {
    const r = rankOf(name);
    const dims: Record<string, readonly number[]> = { A: [r, 5], B: [4, r], L: [r, r], U: [r, r], scale: [1] };
    return Object.fromEntries(roles.map((role) => [role, { dims: dims[role]!, data: values.get(`${name}.${role}`)! }]));
  };
  const change = (name: string): Float32Array => {
    const delta = triAdaptLora.delta!(tensors(name), config, site(name), {} as never);
    return (delta.weight as { add: Float32Array }).add;
  };
  const grow = (step: number): string[] =>
    (hooks.grow?.(step) ?? []).map(({ name, data }) => {
      values.set(name, data);
      return name;
    });
  return { config, values, hooks, sites, rankOf, tensors, change, grow };
}

/** Every tensor moved at random, inside the pattern of the blocks. */
function move({ values, config, rankOf }: ReturnType<typeof growing>, name: string): void {
  const random = testRandom(11);
  for (const role of ["A", "B", "L", "U"]) {
    const data = values.get(`${name}.${role}`)!;
    data.forEach((v, i) => {
      data[i] = v + random() - 0.5;
    });
    if (role === "L" || role === "U") keepTriangle(data, blocksOf(rankOf(name), config), role);
  }
}

const gap = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

describe("start", () => {
  test.each([
    { init: "c0", initRank: 3 },
    { init: "eye", initRank: 3 },
    { init: "single", initRank: 2 },
  ] as const)("%j is the identity, to the bit", (fields) => {
    expect(
      growing(fields)
        .change("a")
        .every((v) => v === 0),
    ).toBe(true);
  });

  test('"eye" begins with C = 2 I', () => {
    const { L, U } = growing({ init: "eye", initRank: 2 }).tensors("a");
    expect([...L!.data]).toEqual([1, 0, 0, 1]);
    expect(U!.data).toEqual(L!.data);
  });

  test.each(["cb0", "abc0"] as const)("%s is refused, because its gradients are zero", async (init) => {
    const inject = (fields: object) =>
      injectAdapter(prepareModel(tinyModel()), {
        method: triAdaptLora,
        config: { ...fields, targetModules: ["query"] } as AdapterConfigInput<TriAdaptConfig>,
        wantedOutputs: ["logits"],
      });
    expect(() => inject({ init })).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringContaining("every gradient") }),
    );
    const adapted = inject({ initRank: 2 });
    const { g, outputs } = adapted;
    const logits = outputs.get("logits")!;
    const wanted = trainableValues(adapted);
    differentiate(g, [{ value: g.reduceSum(g.mul(logits, logits), [0, 1], false) }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const start = initialParameters(adapted, 1);
    const gradients = async (isDead: boolean): Promise<boolean> => {
      const ids = { type: "int64", dims: [1, 3], data: BigInt64Array.of(1n, 2n, 3n) } as const;
      const feeds = adapted.parameters.map(({ name, shape, role }) => {
        const isZero = isDead && (role === "B" || (init === "abc0" && role === "A"));
        const data = isZero ? new Float32Array(start.get(name)!.length) : start.get(name)!;
        return [name, { type: "float32", dims: shape, data } as const] as const;
      });
      const found = await runBuilder(g, { input_ids: ids, ...Object.fromEntries(feeds) });
      return wanted.every(({ name }) => (found[`d:${name}`]!.data as Float32Array).every((v) => v === 0));
    };
    expect(await gradients(true)).toBe(true);
    expect(await gradients(false)).toBe(false);
  });
});

describe("growth", () => {
  test("with C = 0 it changes nothing but the scale, and not even that where it is constant or made up for", () => {
    const ratio = (fields: Partial<TriAdaptConfig>): number[] => {
      const run = growing({ initRank: 2, referenceRank: 6, ...fields });
      move(run, "a");
      const before = run.change("a").slice();
      expect(run.grow(4)).toHaveLength(4);
      expect(run.rankOf("a")).toBe(5);
      return Array.from(run.change("a"), (v, i) => v / before[i]!);
    };
    for (const v of ratio({})) expect(v).toBeCloseTo((2 + 1e-5) / (5 + 1e-5), 6);
    for (const v of ratio({ scaleBy: 2 })) expect(v).toBe(1);
    for (const v of ratio({ rescaleOnGrowth: true })) expect(v).toBeCloseTo(1, 5);
    // The other starts add a jump: new ranks take part at once.
    for (const init of ["single", "eye"] as const) {
      const jump = ratio({ init, increment: 3, scaleBy: 2 });
      expect(Math.max(...jump.map((v) => Math.abs(v - 1)))).toBeGreaterThan(1e-6);
    }
  });

  test("how many modules grow: linear, non-linear, at least one, at most all", () => {
    const state = { t: 6, warmup: 2, total: 12, now: 12, target: 24 }; // q = 0.4, 12 ranks missing
    expect(growingCount(state, "linear", 10)).toBe(4); // 4.8
    expect(growingCount(state, "nonLinear", 10)).toBe(2); // 12^0.4 = 2.70
    expect(growingCount({ ...state, t: 3 }, "linear", 10)).toBe(1); // 1.2
    expect(growingCount({ ...state, now: 23 }, "linear", 10)).toBe(1); // 0.4
    expect(growingCount({ ...state, t: 12 }, "linear", 3)).toBe(3);
    expect(growingCount({ ...state, t: 12 }, "nonLinear", 20)).toBe(12);
  });

  test("three modules with given scores: threshold and ties", () => {
    const scores = [0.1, -0.2, 0.1];
    expect(growingSites(scores, 1)).toEqual([0, 2]);
    expect(growingSites(scores, 3)).toEqual([0, 1, 2]);
    expect(growingSites([-3, -1, -2], 2)).toEqual([1, 2]);
    expect(shares([0, 2], scores, { increment: 4, left: Number.POSITIVE_INFINITY })).toEqual(
      new Map([
        [0, 4],
        [2, 4],
      ]),
    );
    expect(shares([0, 1, 2], [1, 5, 3], { increment: 4, left: 6 })).toEqual(
      new Map([
        [1, 4],
        [2, 2],
      ]),
    );
  });

  test("none before the warm-up is over, between intervals, and after the target; the total exceeds it by less than a block each", () => {
    const at = (t: number, now = 0) => isGrowthDue({ t, warmup: 4, total: 20, now, target: 8 }, 3);
    expect([3, 4, 5, 6, 7, 9].map((t) => at(t))).toEqual([false, false, false, true, false, true]);
    expect([at(6, 7), at(6, 8), at(6, 9)]).toEqual([true, false, false]);
    const names = ["a", "b", "c"];
    for (const capTotal of [false, true]) {
      const run = growing({ initRank: 1, referenceRank: 4, increment: 3, interval: 2, warmup: 1, capTotal }, names, 12);
      const history: number[][] = [];
      for (let step = 0; step < 12; step++) {
        for (const name of names) move(run, name);
        run.grow(step);
        history.push(names.map(run.rankOf));
      }
      expect(history[0]).toEqual([1, 1, 1]);
      const totals = history.map((ranks) => ranks.reduce((a, b) => a + b, 0));
      totals.forEach((now, step) => {
        if (step % 2 === 0 && step > 0) expect(now).toBe(totals[step - 1]);
      });
      const final = totals.at(-1)!;
      expect(final).toBeGreaterThanOrEqual(12);
      expect(final).toBeLessThanOrEqual(capTotal ? 12 : 12 + 3 * 3 - 1);
    }
  });

  test("the score is the increase of |C| per block since the last look", () => {
    const run = growing({ initRank: 2, referenceRank: 8, increment: 2, interval: 1 });
    move(run, "a");
    const { values } = run;
    const norm = () =>
      normPerBlock(values.get("a.L")!, values.get("a.U")!, blocksOf(run.rankOf("a"), run.config).length);
    const last = () => run.hooks.state!()["triadaptlora:norms"]![0]!;
    expect(last()).toBe(0); // looked at when C was zero
    const v = norm();
    run.grow(0);
    expect(last()).toBeCloseTo(v, 6);
    // A block more, whose C is zero: v falls to one half.
    expect(norm()).toBeCloseTo(v / 2, 6);
    for (const role of ["L", "U"])
      values.set(
        `a.${role}`,
        values.get(`a.${role}`)!.map((x) => 2 * x),
      );
    expect(norm() - v / 2).toBeCloseTo(v / 2, 6); // twice the C: the score is what v was
  });

  test("gradients outside the pattern are cleared", () => {
    const run = growing({ initRank: 1, increment: 2, referenceRank: 3 });
    run.grow(0);
    const gradients = new Map(["L", "U"].map((role) => [`a.${role}`, new Float32Array(9).fill(1)]));
    run.hooks.beforeUpdate!(1, gradients);
    expect([...gradients.get("a.L")!]).toEqual([1, 0, 0, 1, 1, 1, 1, 1, 1]);
    expect([...gradients.get("a.U")!]).toEqual([1, 1, 1, 0, 1, 1, 0, 1, 1]);
  });

  test("a schedule without room is refused", () => {
    expect(() => growing({ warmup: 10 })).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  });
});

test("C = I and alpha = r: LoRA of scale 1", () => {
  const { config, tensors } = growing({ initRank: 3, alpha: 3 });
  const own = tensors("a");
  const random = testRandom(5);
  const draw = (dims: readonly number[]): AdapterTensor => ({
    dims,
    data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() - 0.5),
  });
  const [A, B] = [draw([3, 5]), draw([4, 3])];
  const unit = { dims: [3, 3], data: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1) };
  const found = triAdaptLora.delta!({ ...own, A, B, L: unit }, config, site("a"), {} as never);
  const expected = lora.delta!({ A, B }, lora.config.parse({ r: 3, alpha: 3 }), site("a"), {} as never);
  const [mine, theirs] = [found, expected].map((d) => (d.weight as { add: Float32Array }).add);
  expect(gap(mine!, theirs!) / Math.max(...theirs!.map(Math.abs))).toBeLessThan(1e-5);
});

test("parameters follow the growth history", () => {
  const config = triAdaptConfig.parse({ initRank: 2, increment: 3, rankPattern: { "x.a": 8, b: 5 } });
  // Blocks 2, 3, 3: ends 2, 5, 8.
  const count = (name: string): number => parameterCount(triAdaptLora, config, [site(name)]);
  expect(count("x.a")).toBe(8 * 9 + 2 * (2 * 2 + 3 * 5 + 3 * 8));
  expect(count("x.b")).toBe(5 * 9 + 2 * (2 * 2 + 3 * 5));
  expect(count("x.c")).toBe(2 * 9 + 2 * 4);
  const single = triAdaptConfig.parse({ init: "single", rankPattern: { a: 6 } });
  expect(parameterCount(triAdaptLora, single, [site("a")])).toBe(6 * 9 + 6 * 7);
  // DeBERTaV3-base, all six linear layers of twelve: 165,888 for every rank.
  const layers = Array.from({ length: 12 }, (_, i) => [
    ...["q", "k", "v", "o"].map((name) => site(`${i}.${name}`, 768, 768)),
    ...[site(`${i}.up`, 768, 3072), site(`${i}.down`, 3072, 768)],
  ]).flat();
  expect(parameterCount(triAdaptLora, triAdaptConfig.parse({ initRank: 1 }), layers)).toBe(165_888 + 2 * layers.length);
});

describe("a trained adapter", () => {
  const config = { initRank: 1, referenceRank: 4, interval: 3, alpha: 6, targetModules: "all-linear" };
  const trained = async () => {
    const run = await tinyTraining("TRIADAPTLORA", config, { totalSteps: 20 });
    await run.steps(0, 20);
    const { parameters } = await run.engine.state();
    await run.engine.close();
    return { ...run, parameters, adapter: adapterOf(run.adapted, new Map(Object.entries(parameters))) };
  };
  const logitsOf = async (model: Model): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    const ids: RuntimeTensor = { type: "int64", dims: [2, 3], data: BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n) };
    const { logits } = await session.run({ input_ids: ids }, ["logits"]);
    await session.close();
    return logits?.data as Float32Array;
  };

  test("has its ranks in the config, is counted, read back from blocks, and is a LoRA", async () => {
    const { adapter, adapted } = await trained();
    const ranks = (adapter.config as unknown as TriAdaptConfig).rankPattern!;
    expect(Math.max(...Object.values(ranks))).toBeGreaterThan(1);
    expect(new Set(Object.values(ranks)).size).toBeGreaterThan(1);
    const own = methodConfig(adapter.config) as TriAdaptConfig;
    const sites = adapted.plans.map((plan) => plan.site);
    expect(trainedCount(adapted, adapter)).toBe(parameterCount(triAdaptLora, own, sites));

    const files = toPeft(adapter);
    const [name = "", rank = 0] = Object.entries(ranks).find(([, r]) => r > 1) ?? [];
    const ends = blocksOf(rank, own);
    expect(ends.length).toBeGreaterThan(1);
    ends.forEach((end, i) => {
      const size = end - (ends[i - 1] ?? 0);
      expect(files.tensors.get(`${name}.lora_C_row.${i}`)?.dims).toEqual([size, end]);
      expect(files.tensors.get(`${name}.lora_C_col.${i}`)?.dims).toEqual([end, size]);
      expect(files.tensors.get(`${name}.lora_A.${i}`)?.dims[0]).toBe(size);
    });
    expect(files.config).toMatchObject({
      peft_type: "TRIADAPTLORA",
      init_rank: 1,
      incre_interval: 3,
      rank_pattern: ranks,
    });
    const back = fromPeft(files);
    expect(back.tensors).toEqual(adapter.tensors);
    expect(back.config).toEqual({ ...adapter.config, targetModules: "all-linear" });
    const missing = new Map([...files.tensors].filter(([key]) => key !== `${name}.lora_A.0`));
    expect(() => fromPeft({ ...files, tensors: missing })).toThrow(
      expect.objectContaining({ code: "ADAPTER_MISMATCH" }),
    );

    const model = tinyModel();
    const merged = await logitsOf(mergeAdapter(model, adapter));
    expect(gap(merged, await logitsOf(model))).toBeGreaterThan(1e-3);
    const converted = triAdaptToLora(adapter);
    expect(converted.type).toBe("LORA");
    expect(gap(merged, await logitsOf(mergeAdapter(model, converted)))).toBeLessThan(1e-5);
  });

  test("its tensors outside the blocks stay zero, and parts of the diagonal blocks move alike", async () => {
    const run = await tinyTraining("TRIADAPTLORA", {
      ...config,
      initRank: 3,
      referenceRank: 3,
      targetModules: ["query"],
    });
    await run.steps(0, 6);
    const { parameters } = await run.engine.state();
    const { name } = run.adapted.parameters.find((p) => p.role === "L")!;
    expect(parameters[name]?.data).toEqual(parameters[name.replace("C_row", "C_col")]?.data);
    await run.engine.close();
    const { parameters: grown, adapter } = await trained();
    const own = methodConfig(adapter.config) as TriAdaptConfig;
    for (const [site, rank] of Object.entries(own.rankPattern!)) {
      for (const part of ["L", "U"] as const) {
        const data = grown[`${site}.${part === "L" ? "lora_C_row" : "lora_C_col"}`]!.data as Float32Array;
        const kept = data.slice();
        keepTriangle(kept, blocksOf(rank, own), part);
        expect(data).toEqual(kept);
      }
    }
  });
});

describe("the transcription in PyTorch", () => {
  interface Golden {
    readonly alpha: number;
    readonly orthReg: number;
    readonly learningRate: number;
    readonly interval: number;
    readonly target: number;
    readonly weight: number[];
    readonly x: number[];
    readonly y: number[];
    readonly start: Record<"A" | "L" | "U", number[]>;
    readonly losses: number[];
    readonly growths: {
      readonly step: number;
      readonly score: number;
      readonly block: Record<"A" | "B" | "L" | "U", number[]>;
    }[];
    readonly change: number[];
  }
  const golden = JSON.parse(
    readFileSync(new URL("../../../../parity/golden/tri-adapt.json", import.meta.url), "utf8"),
  ) as Golden;

  test("losses of eight steps with three growths, scores, and the change at the end", async () => {
    const g = createBuilder(17);
    const input = g.input("x", "float32", ["rows", 5]);
    const weight = g.initializer("layer.weight", tensorFrom("float32", [4, 5], golden.weight));
    g.output(g.op("Gemm", [input, weight], { transB: 1 }, { name: "/layer/Gemm" })[0]!, "y");
    const config = { ...golden, init: "single", referenceRank: golden.target, targetModules: ["layer"] };
    const { alpha, orthReg, interval, init, referenceRank, targetModules } = config;
    const adapted = injectAdapter(toModel(g.finish(), 17), {
      method: triAdaptLora,
      config: { alpha, orthReg, interval, init, referenceRank, targetModules } as AdapterConfigInput<TriAdaptConfig>,
    });
    const y = adapted.g.input("labels", "float32", ["rows", 4]);
    const training = buildAdapterProgram(
      adapted,
      meanSquaredError(adapted.g, { predictions: adapted.outputs.get("y")!, labels: y }),
    );
    const named = (role: string): string => adapted.parameters.find((p) => p.role === role)!.name;
    const start: Record<string, readonly number[]> = { ...golden.start, B: [0, 0, 0, 0], scale: [alpha / (1 + 1e-5)] };
    const engine = await createEngine(onnxruntimeNode, {
      training,
      parameters: Object.fromEntries(
        adapted.parameters.map(({ name, role, shape }) => [
          name,
          { type: "float32", dims: shape, data: Float32Array.from(start[role]!) } as const,
        ]),
      ),
      optimizer: { type: "sgd", learningRate: golden.learningRate },
      ...{ seed: 1, threads: 1, totalSteps: golden.losses.length },
    });
    const runs = [
      {
        x: { type: "float32", dims: [6, 5], data: Float32Array.from(golden.x) },
        labels: { type: "float32", dims: [6, 4], data: Float32Array.from(golden.y) },
      } as const,
    ];
    let norm = 0;
    for (let step = 0; step < golden.losses.length; step++) {
      const before = await engine.state();
      if (step === 0) norm = before.hooks["triadaptlora:norms"]![0]!;
      const { loss } = await engine.step({ step, runs, learningRateScale: 1 });
      expect(Math.abs(loss - golden.losses[step]!)).toBeLessThan(1e-5);
      const growth = golden.growths.find((found) => found.step === step);
      const state = await engine.state();
      const r = state.parameters[named("A")]!.dims[0]!;
      expect(r).toBe((before.parameters[named("A")]!.dims[0] ?? 0) + (growth ? 1 : 0));
      if (!growth) continue;
      const now = state.hooks["triadaptlora:norms"]![0]!;
      expect(Math.abs(now - norm - growth.score)).toBeLessThan(1e-5);
      norm = now;
      // The same numbers in the new block.
      const put = (role: string, place: (i: number) => number): void => {
        const data = state.parameters[named(role)]!.data as Float32Array;
        growth.block[role as "A"].forEach((v, i) => {
          data[place(i)] = v;
        });
      };
      put("A", (i) => (r - 1) * 5 + i);
      put("B", (i) => i * r + r - 1);
      put("L", (i) => (r - 1) * r + i);
      put("U", (i) => i * r + r - 1);
      await engine.restore(state);
    }
    const { parameters } = await engine.state();
    const adapter = adapterOf(adapted, new Map(Object.entries(parameters)));
    const tensors = Object.fromEntries(["A", "B", "L", "U"].map((role) => [role, adapter.tensors.get(named(role))!]));
    const own = methodConfig(adapter.config) as TriAdaptConfig;
    expect(own.rankPattern).toEqual({ layer: 4 });
    expect(triAdaptScale(4, own)).toBeCloseTo(3 / (4 + 1e-5), 12);
    const { weight: found } = triAdaptLora.delta!(tensors, own, site("layer"), {} as never);
    expect(gap((found as { add: Float32Array }).add, golden.change)).toBeLessThan(1e-5);
    await engine.close();
  });
});
