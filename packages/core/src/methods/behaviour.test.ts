import { describe, expect, test } from "vitest";
import { type Adapter, adapterOf } from "../adapters/adapter.ts";
import { createAdapterSet } from "../adapters/adapter-set.ts";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter, unmergeAdapter } from "../adapters/merge.ts";
import { createMixedSet, makeMixedSwappable } from "../adapters/mixed-set.ts";
import { fromPeft, inPeftForm, toPeft } from "../adapters/peft-files.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "../adapters/select.ts";
import { findSites } from "../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { tinyModel, tinySizes } from "../adapters/testing/tiny-model.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { declared, whyNoDelta } from "./method.ts";
import { listMethods, methodOf } from "./registry.ts";
import { triedConfigs } from "./testing/configs.ts";
import { rowFeeds } from "./testing/row-feeds.ts";
import { startValues } from "./testing/start-values.ts";

const tokens: RuntimeTensor = {
  type: "int64",
  dims: [2, 5],
  data: BigInt64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], BigInt),
};
/** In the operators that adapters are injected into: what a new adapter must not change, bit for bit. */
const model = prepareModel(tinyModel());
async function runModel(m: Model, feeds: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
  const { logits } = await session.run({ input_ids: tokens, ...feeds }, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
}

const feedsOf = (adapted: AdaptedGraph, values: ReadonlyMap<string, Float32Array>): Record<string, RuntimeTensor> =>
  Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32", dims: shape, data: values.get(name)! } as const,
    ]),
  );

async function runAdapted(
  adapted: AdaptedGraph,
  values: ReadonlyMap<string, Float32Array>,
  more: Feeds = {},
): Promise<Float32Array> {
  const { g, outputs } = injectAdapter(adapted.model, { method: adapted.method, config: adapted.config });
  g.output(outputs.get("logits")!, "logits");
  const session = await openBuilder(g);
  const feeds: Feeds = { input_ids: tokens, ...feedsOf(adapted, values), ...more };
  const { logits } = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n]!])));
  await session.close();
  return logits?.data as Float32Array;
}

/** Start values moved at random: what training does. */
function moved(adapted: AdaptedGraph, seed: number, noise: number): Map<string, Float32Array> {
  const random = testRandom(seed);
  const trainable = new Set(adapted.parameters.filter((p) => p.trainable && p.spec.saved !== false).map((p) => p.name));
  return new Map(
    [...startValues(adapted, seed)].map(([name, v]) => [
      name,
      trainable.has(name) ? v.map((x) => x + noise * (random() * 2 - 1)) : v,
    ]),
  );
}

const close = (a: Float32Array, b: Float32Array, tolerance: number): void => {
  const scale = Math.max(...a.map(Math.abs));
  const worst = a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0);
  expect(a.length).toBe(b.length);
  expect(worst / scale).toBeLessThan(tolerance);
};
const differ = (a: Float32Array, b: Float32Array): void => {
  expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0)).toBeGreaterThan(1e-3);
};

test("every method is tried", () => {
  expect(
    listMethods()
      .map((m) => m.type)
      .sort(),
  ).toEqual([...new Set(triedConfigs.map((tried) => tried.type))].sort());
  expect(methodOf("lora").type).toBe("LORA");
  expect(() => methodOf("LOAR")).toThrow(expect.objectContaining({ code: "UNKNOWN_METHOD" }));
});

describe.each(
  triedConfigs.map((tried) => [[tried.type, ...(tried.variant ? [tried.variant] : [])].join(", "), tried] as const),
)("%s", (_, { type, config, noise = 0.3, stopsGradients = false }) => {
  const method = methodOf(type);
  const parsed = parseAdapterConfig(method, config);
  const promised = declared(method.identityAtStart, parsed);
  const [noDelta, neutral] = [whyNoDelta(method, parsed), declared(method.neutral, parsed)];
  const [two, five] = [rowFeeds({ type, config }, 2), rowFeeds({ type, config }, 5)];
  const isDrawn = type === "LORA" && !("initLoraWeights" in config);
  const inject = (): AdaptedGraph => injectAdapter(model, { method, config, wantedOutputs: ["logits"] });
  const trained = (seed: number): Adapter => {
    const adapted = inject();
    return adapterOf(adapted, moved(adapted, seed, noise));
  };

  test("a new adapter is the identity as declared, a moved one is not", async () => {
    const adapted = inject();
    const base = await runModel(model);
    const start = await runAdapted(adapted, startValues(adapted, 1), two);
    if (promised === true) expect(start).toEqual(base);
    else if (promised === "rounded") close(start, base, 1e-5);
    else differ(start, base);
    differ(await runAdapted(adapted, moved(adapted, 2, noise), two), base);
  });

  test("start values depend on seed and name only", () => {
    const [a, b] = [startValues(inject(), 5), startValues(inject(), 5)];
    expect(a).toEqual(b);
    // What all modules share depends on which modules there are.
    if (method.shared || !method.kinds.some((kind) => kind === "linear" || kind === "norm")) return;
    const only = injectAdapter(model, {
      method,
      config: {
        ...config,
        layersToTransform: [1],
        targetModules: ["query", "output.dense", "LayerNorm"],
        modulesToSave: ["classifier"],
      } as AdapterConfigInput,
    });
    for (const [name, values] of startValues(only, 5))
      if (a.has(name) && !name.startsWith("base_model.")) expect(values).toEqual(a.get(name));
    if (isDrawn) expect(startValues(inject(), 6)).not.toEqual(a);
  });

  /** A change that is none of weights is refused everywhere, with the reason that the method declares. */
  const refusesToMerge = (adapter: Adapter): void => {
    const refused = expect.objectContaining({ code: "NO_DELTA", message: expect.stringContaining(noDelta ?? "") });
    expect(() => mergeAdapter(model, adapter)).toThrow(refused);
    expect(() => unmergeAdapter(model, adapter, model)).toThrow(refused);
    expect(() => convertToLora(model, adapter, { rank: 1 })).toThrow(refused);
  };
  /** What an adapter makes of the model without being merged. */
  const served = async (adapter: Adapter, feeds: Feeds = two): Promise<Float32Array> => {
    const adapted = injectAdapter(model, { method, config: adapter.config, wantedOutputs: ["logits"] });
    const remade = startValues(adapted, 1); // what files leave out
    const values = adapted.parameters.map(
      ({ name }) => [name, adapter.tensors.get(name)?.data ?? remade.get(name)!] as const,
    );
    return runAdapted(adapted, new Map(values), feeds);
  };
  const applied = (adapter: Adapter): Promise<Float32Array> =>
    noDelta === null ? runModel(mergeAdapter(model, adapter)) : served(adapter);

  test("merged equals unmerged, and unmerging gives the base back", async () => {
    const adapted = inject();
    const values = moved(adapted, 3, noise);
    const adapter = adapterOf(adapted, values);
    const before = await runModel(model);
    if (noDelta !== null) return refusesToMerge(adapter);
    const merged = mergeAdapter(model, adapter);
    close(await runModel(merged), await runAdapted(adapted, values, two), 1e-5);
    close(await runModel(unmergeAdapter(merged, adapter, model)), before, 1e-5);
    expect(await runModel(model)).toEqual(before);
  });

  test("a merge that gives NaN is refused", () => {
    const adapted = inject();
    const values = moved(adapted, 3, noise);
    if (noDelta !== null) return;
    for (const { name } of adapted.parameters.filter((p) => p.trainable)) values.get(name)![0] = Number.NaN;
    expect(() => mergeAdapter(model, adapterOf(adapted, values))).toThrow(
      expect.objectContaining({ code: "MERGE_NOT_FINITE" }),
    );
  });

  test("saved and read back, tensors, options and unknown fields", async () => {
    const own = trained(4);
    const adapter = inPeftForm(own);
    const files = toPeft(own);
    const back = fromPeft({ ...files, config: { ...files.config, some_new_field: [1, 2] } });
    expect(back.type).toBe(adapter.type);
    // Modules that a method chose by itself are named in the file: peft has no defaults for most models.
    const chosen = inject().plans.flatMap(({ site, method: own }) => (own.type === method.type ? [site.name] : []));
    const read = (method.peft?.read?.(adapter).config ?? adapter.config) as typeof adapter.config;
    const targets = method.wholeModel ? {} : { targetModules: read.targetModules ?? chosen };
    expect(back.config).toEqual({ ...read, ...targets });
    expect(back.tensors).toEqual(adapter.tensors);
    if (adapter.config !== own.config) {
      // Written in another form: the same model all the same.
      close(await applied(back), await applied(own), 1e-5);
    }
    expect(toPeft(back).config["some_new_field"]).toEqual([1, 2]);
  });

  test("swaps adapters and none in one session", async () => {
    if (neutral === "none") {
      expect(() => makeSwappable(model, { method, config })).toThrow(expect.objectContaining({ code: "NO_NEUTRAL" }));
      return;
    }
    const swappable = makeSwappable(model, { method, config: config });
    const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
    const run = async (feeds: Feeds): Promise<Float32Array> =>
      (await session.run({ input_ids: tokens, ...two, ...feeds }, ["logits"]))["logits"]!.data as Float32Array;
    const base = await runModel(model);
    const isBase = (found: Float32Array): void =>
      promised === "rounded" ? close(found, base, 1e-6) : expect(found).toEqual(base);
    isBase(await run(adapterFeeds(swappable, null)));
    const set = createAdapterSet(swappable);
    const [a, b] = [trained(5), trained(6)];
    set.add("a", a);
    set.add("b", b);
    close(await run(set.feeds()), await applied(a), 1e-5);
    set.setActive("b");
    close(await run(set.feeds()), await applied(b), 1e-5);
    close(await run(set.feeds("a")), await applied(a), 1e-5);
    set.disable();
    expect(set.active).toBeNull();
    isBase(await run(set.feeds()));
    set.enable();
    set.delete("b");
    expect([set.names, set.active]).toEqual([["a"], null]);
    expect(() => set.setActive("b")).toThrow(expect.objectContaining({ code: "UNKNOWN_ADAPTER" }));
    await session.close();
  });

  test("another adapter for each row of a batch, the base included", async () => {
    const rows = ["a", "__base__", "b", "a", "b"];
    const ids = {
      type: "int64",
      dims: [5, 3],
      data: BigInt64Array.from({ length: 15 }, (_, i) => BigInt((7 * i) % 11)),
    };
    if (method.noMixedBatch) {
      const places = () => makeMixedSwappable(model, { method, config, places: 2 });
      expect(places).toThrow(expect.objectContaining({ code: "ROWS_UNSUPPORTED" }));
      return;
    }
    const mixed = makeMixedSwappable(model, { method, config, places: 2 });
    const set = createMixedSet(mixed);
    const fed = { input_ids: ids as RuntimeTensor, ...five };
    const swappable = neutral === "none" ? null : makeSwappable(model, { method, config });
    const single = swappable && (await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 }));
    const alone = async (adapter: Adapter | null): Promise<Float32Array> => {
      if (!swappable || !single) return adapter ? served(adapter, fed) : runModel(model, fed);
      const { logits } = await single.run({ ...fed, ...adapterFeeds(swappable, adapter) }, ["logits"]);
      return logits?.data as Float32Array;
    };
    const whole = new Map<string, Float32Array>();
    for (const [name, adapter] of [
      ["a", trained(5)],
      ["b", trained(6)],
      ["__base__", null],
    ] as const) {
      if (adapter) set.add(name, adapter);
      whole.set(name, await alone(adapter));
    }
    await single?.close();
    const session = await onnxruntimeNode.open(encodeModel(mixed.model), { threads: 1 });
    const feeds = { ...fed, ...set.feeds(rows) };
    const { logits } = await session.run(feeds, ["logits"]);
    await session.close();
    const width = tinySizes.labels;
    const part = (data: Float32Array, row: number): Float32Array => data.slice(row * width, (row + 1) * width);
    for (const [row, name] of rows.entries())
      close(part(logits!.data as Float32Array, row), part(whole.get(name)!, row), 1e-6);
    differ(whole.get("a")!, whole.get("b")!);
  });

  test("two adapters merged one after the other", async () => {
    if (noDelta !== null) return;
    const [a, b] = [trained(7), trained(8)];
    if (inject().parameters.some(({ spec }) => spec.witness)) {
      // What belongs to one base model does not fit a changed one.
      const merged = mergeAdapter(model, a);
      expect(() => mergeAdapter(merged, b)).toThrow(expect.objectContaining({ code: "BASE_MISMATCH" }));
      return;
    }
    const both = mergeAdapter(mergeAdapter(model, a), b);
    const bOnly = mergeAdapter(model, b);
    const unmerged = await runModel(unmergeAdapter(both, b, mergeAdapter(model, a)));
    close(unmerged, await runModel(mergeAdapter(model, a)), 1e-5);
    if (neutral === "base") close(await runModel(both), await runModel(bOnly), 1e-6);
  });

  test("gradients of the adapter, and of it alone, equal finite differences", async () => {
    const adapted = inject();
    const { g, outputs } = adapted;
    const logits = outputs.get("logits")!;
    const weights = g.input("weights", "float32", logits.shape);
    const loss = g.reduceSum(g.mul(logits, weights), [0, 1], false);
    const wanted = trainableValues(adapted);
    const gradients = differentiate(g, [{ value: loss }], wanted);
    g.output(loss, "loss");
    gradients.forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const session = await openBuilder(g);
    expect([...session.outputNames].sort()).toEqual(["loss", ...wanted.map((p) => `d:${p.name}`)].sort());
    const random = testRandom(9);
    const values = moved(adapted, 9, noise);
    const fixed = {
      input_ids: tokens,
      ...two,
      weights: {
        type: "float32",
        dims: [2, tinySizes.labels],
        data: Float32Array.from({ length: 6 }, () => random() * 2 - 1),
      },
    } as const;
    const at = async (v: ReadonlyMap<string, Float32Array>) => {
      const feeds: Record<string, RuntimeTensor> = { ...fixed, ...feedsOf(adapted, v) };
      return session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n]!])));
    };
    const analytic = await at(values);
    const trainable = adapted.parameters.filter((p) => p.trainable && !(stopsGradients && /lora_[AB]/.test(p.name)));
    for (const parameters of [trainable, ...trainable.map((p) => [p])]) {
      const directions = new Map(parameters.map((p) => [p.name, values.get(p.name)!.map(() => random() * 2 - 1)]));
      const shifted = (h: number) =>
        new Map([...values].map(([n, v]) => [n, v.map((x, i) => x + h * (directions.get(n)?.[i] ?? 0))]));
      let expected = 0;
      let scale = 0.02;
      for (const [n, d] of directions) {
        const dX = analytic[`d:${n}`]!.data as Float32Array;
        dX.forEach((x, i) => {
          expected += x * d[i]!;
          scale += Math.abs(x * d[i]!);
        });
      }
      const lossAt = async (h: number): Promise<number> => ((await at(shifted(h)))["loss"]!.data as Float32Array)[0]!;
      const central = async (h: number): Promise<number> => ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
      const found = (4 * (await central(0.005)) - (await central(0.01))) / 3;
      expect(Math.abs(found - expected), parameters.map((p) => p.name).join()).toBeLessThan(4e-3 * scale + 5e-4);
    }
    await session.close();
  });
});

test("shared weights stay as they are elsewhere", async () => {
  const adapted = injectAdapter(model, { method: methodOf("BITFIT"), config: {} });
  const merged = mergeAdapter(model, adapterOf(adapted, moved(adapted, 2, 0.3)));
  const bias = (m: Model, name: string): Float32Array => {
    const site = findSites(m).find((s) => s.name === name)!;
    return toFloat32Array(m.graph.initializers.get(site.bias!)!);
  };
  const names = ["encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.key"] as const;
  expect(bias(model, names[0])).toEqual(bias(model, names[1]));
  expect(bias(merged, names[0])).not.toEqual(bias(merged, names[1]));
});
