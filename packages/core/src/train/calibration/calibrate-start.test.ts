import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { initialParameters } from "../../adapters/adapter.ts";
import { injectAdapter } from "../../adapters/inject.ts";
import { tinyModel, tinySizes } from "../../adapters/testing/tiny-model.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import { lora } from "../../methods/lora.ts";
import { qwha } from "../../methods/qwha.ts";
import type { Model } from "../../onnx/ir.ts";
import { quantizeModel } from "../../quantization/quantize-model.ts";
import type { Feeds, RuntimeTensor } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { openBuilder } from "../../testing/run-graph.ts";
import { type CalibrateStartOptions, calibrateStart, startNeedsData } from "./calibrate-start.ts";

const model = prepareModel(tinyModel());
const random = testRandom(9);
const integers = (count: number, below: number): BigInt64Array =>
  BigInt64Array.from({ length: count }, () => BigInt(Math.floor(random() * below)));
const batches = [0, 1, 2].map(
  (): Feeds => ({
    input_ids: { type: "int64", dims: [4, 6], data: integers(24, tinySizes.vocabulary) },
    labels: { type: "int64", dims: [4], data: integers(4, tinySizes.labels) },
  }),
);

type Options = Partial<CalibrateStartOptions<ReturnType<typeof lora.config.parse>>>;
const start = (own: Readonly<Record<string, unknown>>, options: Options = {}) =>
  calibrateStart(model, {
    method: lora,
    config: { r: 2, targetModules: "all-linear", ...own },
    batches,
    loss: ({ g, outputs }) =>
      crossEntropy(g, { logits: outputs.get("logits")!, labels: g.input("labels", "int64", ["batch"]) }),
    wantedOutputs: ["logits"],
    isolation: "inline",
    threads: 1,
    ...options,
  });
const eva = { initLoraWeights: "eva", evaConfig: { rho: 2, tau: 0.9 } } as const;
const starts = [eva, { initLoraWeights: "lora_ga" }, { initLoraWeights: "corda" }] as const;

test("says which options need data", () => {
  expect(startNeedsData(lora, { initLoraWeights: "eva" })).toBe(true);
  expect(startNeedsData(lora, { initLoraWeights: "pissa" })).toBe(false);
});

describe.each(starts)("$initLoraWeights", (own) => {
  test("the model begins as it is, with every adapted module in the start", async () => {
    const { config, values } = await start(own);
    const adapted = injectAdapter(model, { method: lora, config, wantedOutputs: ["logits"] });
    for (const { site } of adapted.plans) expect(values.has(`${site.name}.lora_A.weight`), site.name).toBe(true);
    const all = initialParameters(adapted, 1, values);
    adapted.g.output(adapted.outputs.get("logits")!, "logits");
    const session = await openBuilder(adapted.g);
    const feeds: Record<string, RuntimeTensor> = { ...batches[0] };
    for (const { name, shape } of adapted.parameters)
      feeds[name] = { type: "float32", dims: shape, data: all.get(name)! };
    const run = async (): Promise<number[]> => {
      const names = session.inputNames.map((n) => [n, feeds[n]!] as const);
      return [...((await session.run(Object.fromEntries(names)))["logits"]!.data as Float32Array)];
    };
    const adaptedLogits = await run();
    for (const { name } of adapted.parameters) feeds[name] = { ...feeds[name]!, data: all.get(name)!.map(() => 0) };
    const base = await run();
    await session.close();
    for (const [i, v] of base.entries()) expect(adaptedLogits[i]).toBeCloseTo(v, 5);
  });

  test("the same data gives the same start, in groups and in another process too", async () => {
    const whole = await start(own);
    expect(await start(own)).toEqual(whole);
    expect(await start(own, { isolation: "process" })).toEqual(whole);
    // In other graphs sums of gradients may be added in another order.
    const grouped = await start(own, { maxBytes: 600 });
    expect([...grouped.values.keys()]).toEqual([...whole.values.keys()]);
    for (const [name, values] of grouped.values)
      for (const [i, v] of values.entries()) expect(Math.abs(v - whole.values.get(name)![i]!), name).toBeLessThan(1e-5);
  });

  test("a start that is kept needs no data any more", async () => {
    const folder = await mkdtemp(join(tmpdir(), "start-test-"));
    try {
      const made = await start(own, { folder });
      expect(await readdir(folder)).toEqual(["start"]);
      expect(await start(own, { folder, batches: [] })).toEqual(made);
      await expect(start({ ...own, r: 1 }, { folder })).rejects.toMatchObject({ code: "RESUME_MISMATCH" });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("progress is reported, and it can be stopped", async () => {
    const seen: number[] = [];
    const { signal, abort } = (() => {
      const controller = new AbortController();
      return { signal: controller.signal, abort: () => controller.abort(new Error("enough")) };
    })();
    let last = { batches: 0, ready: 0, modules: 0 };
    await start(own, {
      onEvent(event) {
        seen.push(event.batches);
        last = event;
      },
    });
    expect(seen.length).toBeGreaterThan(2);
    expect(last.ready).toBe(last.modules);
    await expect(start(own, { signal, onEvent: abort })).rejects.toThrow("enough");
  });

  test("no batches, no data", async () => {
    await expect(start(own, { batches: [] })).rejects.toMatchObject({ code: "NO_DATA" });
    await expect(start(own, { batches: () => [] })).rejects.toMatchObject({ code: "NO_DATA" });
  });
});

test("EVA spreads the same total rank over the modules, and alpha / r stays", async () => {
  const { config } = await start({ ...eva, alpha: 6 });
  const adapted = injectAdapter(model, { method: lora, config, wantedOutputs: ["logits"] });
  const ranks = adapted.plans.map(({ config: own }) => own as { r: number; alpha: number });
  const all = injectAdapter(model, {
    method: lora,
    config: { r: 2, targetModules: "all-linear" },
    wantedOutputs: ["logits"],
  });
  expect(ranks.reduce((sum, { r }) => sum + r, 0)).toBe(2 * all.plans.length);
  expect(new Set(ranks.map(({ r }) => r)).size).toBeGreaterThan(1);
  for (const { r, alpha } of ranks) {
    expect(r).toBeLessThanOrEqual(4);
    expect(alpha / r).toBeCloseTo(3, 10);
  }
  const even = await start({ ...eva, evaConfig: { rho: 1, tau: 0.9 } });
  expect(even.config.rankPattern).toEqual({});
});

test("padding does not count for EVA", async () => {
  const padded = batches.map((feeds): Feeds => {
    const ids = feeds["input_ids"]!.data as BigInt64Array;
    const mask = BigInt64Array.from(ids, (_, i) => (i % 6 < 4 ? 1n : 0n));
    return { ...feeds, attention_mask: { type: "int64", dims: [4, 6], data: mask } };
  });
  // The word embeddings are all that the first query sees: other padding, same start.
  const changed = padded.map((feeds): Feeds => {
    const ids = feeds["input_ids"]!.data as BigInt64Array;
    return { ...feeds, input_ids: { ...feeds["input_ids"]!, data: ids.map((id, i) => (i % 6 < 4 ? id : 7n)) } };
  });
  const name = "encoder.layer.0.attention.self.query";
  const only = { ...eva, targetModules: [name] };
  const found = async (data: readonly Feeds[]) =>
    (await start(only, { batches: data })).values.get(`${name}.lora_A.weight`);
  expect(await found(changed)).toEqual(await found(padded));
  expect(await found(batches)).not.toEqual(await found(padded));
});

test("QWHA starts at what cancels the error of a quantised base", async () => {
  // Widths of 8 and 12; blocks of 16 levels over whole rows.
  const { model: compressed, sites } = quantizeModel(model, { type: "nf4", blockSize: 16 });
  expect(sites.length).toBeGreaterThan(8);
  const config = { r: 3, scaling: 30, initWeights: "quantization", targetModules: "all-linear" } as const;
  const options = { method: qwha, batches, wantedOutputs: ["logits"], isolation: "inline", threads: 1 } as const;
  await expect(calibrateStart(compressed, { ...options, config })).rejects.toMatchObject({ code: "START_NEEDS_DATA" });
  const logitsOf = async (of: Model, values?: ReadonlyMap<string, Float32Array>): Promise<Float32Array> => {
    const adapted = injectAdapter(of, { method: qwha, config: { ...config, initWeights: "zero" } });
    const all = initialParameters(adapted, 1, values);
    adapted.g.output(adapted.outputs.get("logits")!, "logits");
    const session = await openBuilder(adapted.g);
    const feeds: Record<string, RuntimeTensor> = { input_ids: batches[0]!["input_ids"]! };
    for (const { name, shape } of adapted.parameters)
      feeds[name] = { type: "float32", dims: shape, data: all.get(name)! };
    const { logits } = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n]!])));
    await session.close();
    return logits!.data as Float32Array;
  };
  const { values } = await calibrateStart(compressed, { ...options, config, original: model });
  const [exact, rounded, started] = [
    await logitsOf(model),
    await logitsOf(compressed),
    await logitsOf(compressed, values),
  ];
  const distance = (a: Float32Array): number => Math.hypot(...a.map((v, i) => v - exact[i]!));
  expect(distance(rounded)).toBeGreaterThan(0.01);
  expect(distance(started)).toBeLessThan(0.35 * distance(rounded));
});

test("what is missing is named", async () => {
  await expect(start({})).rejects.toMatchObject({ code: "START_WITHOUT_DATA" });
  const { loss: _, ...rest } = { loss: undefined };
  const bare = calibrateStart(model, {
    method: lora,
    config: { r: 2, targetModules: "all-linear", initLoraWeights: "lora_ga" },
    batches,
    isolation: "inline",
    ...rest,
  });
  await expect(bare).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  const adapted = injectAdapter(model, {
    method: lora,
    config: { initLoraWeights: "eva", r: 2, targetModules: ["query"] },
  });
  expect(() => initialParameters(adapted, 1)).toThrow(expect.objectContaining({ code: "START_NEEDS_DATA" }));
  await expect(start(eva, { maxBatches: 2 })).rejects.toMatchObject({ code: "COMPONENTS_NOT_FOUND" });
});
