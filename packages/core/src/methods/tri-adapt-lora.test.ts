import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters, trainedCount } from "../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import { type AdapterConfigInput, methodConfig } from "../adapters/select.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { triAdaptToLora } from "../adapters/tri-adapt-to-lora.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { lora } from "./lora.ts";
import type { AdapterTensor } from "./method.ts";
import { parameterCount } from "./method.ts";
import { tinyTraining } from "./testing/tiny-training.ts";
import { gap, growing, site } from "./testing/tri-adapt-growing.ts";
import { keepTriangle } from "./tri-adapt-blocks.ts";
import { blocksOf, type TriAdaptConfig, triAdaptConfig } from "./tri-adapt-config.ts";
import { triAdaptLora } from "./tri-adapt-lora.ts";

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
