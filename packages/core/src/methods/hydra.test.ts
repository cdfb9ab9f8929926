import { describe, expect, test } from "vitest";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import { mergeAdapter, unmergeAdapter } from "../adapters/merge.ts";
import type { SiteShape } from "../adapters/site.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { hydra, hydraPresets } from "./hydra.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";
import { tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(111);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const near = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-5): void => {
  const scale = Math.max(1, ...Array.from(b, Math.abs));
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(tolerance * scale);
};
const layer = (config: object, weight: AdapterTensor, bias: Float32Array | null): OneSite => ({
  method: hydra as unknown as Method,
  config: { ...config },
  weight,
  bias,
});
const unit = (n: number): AdapterTensor => ({
  dims: [n, n],
  data: Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
});

describe("limits", () => {
  test("the parallel branch alone is LoRA, bit for bit in the losses", async () => {
    const targets = { targetModules: ["query", "value", "intermediate.dense"] };
    const start = (values: ReadonlyMap<string, Float32Array>): void => {
      const noise = testRandom(5);
      for (const [name, data] of values) if (/lora_A|down_proj/.test(name)) data.set(data.map(() => noise() - 0.5));
    };
    const run = async (type: string, config: object): Promise<number[]> => {
      const { engine, steps } = await tinyTraining(type, { ...config, ...targets }, { start });
      const losses = await steps(0, 12);
      await engine.close();
      return losses;
    };
    const ours = await run("HYDRA", { parallelRank: 3, branches: "parallel", bias: false, init: "kaiming", scale: 2 });
    expect(ours).toEqual(await run("LORA", { r: 3, alpha: 6 }));
  });
  test("the sequential branch alone is a parallel one at an identity layer that follows", async () => {
    const [weight, bias, x, dy] = [draw(6, 5), draw(6).data, draw(3, 5), draw(18).data];
    const [down, up] = [draw(2, 6), draw(6, 2)];
    const config = { bias: false, sequentialRank: 2, parallelRank: 2, scale: 1.5 };
    const at = layer({ ...config, branches: "sequential" }, weight, bias);
    const found = await runOneSite(at, { seqDown: down, seqUp: up }, x, dy);
    const z: AdapterTensor = {
      dims: [3, 6],
      data: (await runOneSite(at, { seqDown: down, seqUp: { dims: [6, 2], data: new Float32Array(12) } }, x, dy)).y,
    };
    const next = layer({ ...config, branches: "parallel" }, unit(6), null);
    const expected = await runOneSite(next, { parDown: down, parUp: up }, z, dy);
    near(found.y, expected.y);
    near(found.gradients["seqDown"]!, expected.gradients["parDown"]!);
    near(found.gradients["seqUp"]!, expected.gradients["parUp"]!);
  });
  test("at an identity layer without bias both branches are the same function with the same gradients", async () => {
    const at = layer({ parallelRank: 2, sequentialRank: 2 }, unit(6), null);
    const names = ["Down", "DownBias", "Up", "UpBias"];
    const values = [draw(2, 6), draw(2), draw(6, 2), draw(6)];
    const tensors = Object.fromEntries(
      ["par", "seq"].flatMap((which) => names.map((n, i) => [`${which}${n}`, values[i]!])),
    );
    const { gradients } = await runOneSite(at, tensors, draw(3, 6), draw(18).data);
    for (const n of names) near(gradients[`par${n}`]!, gradients[`seq${n}`]!, 1e-6);
  });
});

test("the sequential branch reads the output with its bias", async () => {
  const at = layer(
    { branches: "sequential", bias: false },
    { dims: [6, 5], data: new Float32Array(30) },
    new Float32Array(6).fill(100),
  );
  const [down, up] = [draw(2, 6), draw(6, 2)];
  const { y } = await runOneSite(at, { seqDown: down, seqUp: up }, draw(1, 5), draw(6).data);
  const sums = [0, 1].map((r) => 100 * [0, 1, 2, 3, 4, 5].reduce((s, i) => s + down.data[r * 6 + i]!, 0));
  near(
    y,
    Array.from({ length: 6 }, (_, o) => 100 + up.data[o * 2]! * sums[0]! + up.data[o * 2 + 1]! * sums[1]!),
  );
});

describe("merging", () => {
  const model = prepareModel(tinyModel());
  const input = { type: "int64", dims: [2, 3], data: BigInt64Array.from([1, 2, 3, 4, 5, 6], BigInt) } as const;
  const logitsOf = async (m: Model, feeds: Feeds = {}): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
    const { logits } = await session.run({ input_ids: input, ...feeds }, ["logits"]);
    await session.close();
    return logits!.data as Float32Array;
  };
  test("with biases and factor 4.5, attention projections and feed-forward layers: the same logits, no node more, and back", async () => {
    const config = { scale: 4.5, targetModules: ["attention.output.dense", "output.dense"] };
    const adapter = movedAdapter(model, "HYDRA", config, 3, 0.2);
    const swappable = makeSwappable(model, { method: hydra, config: adapter.config });
    const merged = mergeAdapter(model, adapter);
    near(await logitsOf(merged), await logitsOf(swappable.model, adapterFeeds(swappable, adapter)));
    expect(merged.graph.nodes.map((n) => n.op)).toEqual(model.graph.nodes.map((n) => n.op));
    near(await logitsOf(unmergeAdapter(merged, adapter, model)), await logitsOf(model));
  });
  test("as LoRA of rank r_p + r_s it is exact where no bias changes, and refused where one does", () => {
    const config = { bias: false, parallelRank: 2, sequentialRank: 1, targetModules: ["dense"] };
    const zeros = toyModel([{ weight: draw(6, 8), bias: new Float32Array(6) }]);
    const { error, sites } = convertToLora(zeros, movedAdapter(zeros, "HYDRA", config, 3), { rank: 3 });
    expect(error).toBeLessThan(1e-6);
    expect(sites.map(({ rank }) => rank)).toEqual([3]);
    const biased = toyModel([{ weight: draw(6, 8), bias: draw(6).data }]);
    expect(() => convertToLora(biased, movedAdapter(biased, "HYDRA", config, 3), { rank: 3 })).toThrow(
      expect.objectContaining({ code: "NOT_LORA" }),
    );
  });
});

test("presets: 239,712 for ViT-B/16 on VTAB, 331,776 for RoBERTa-base on GLUE, 147,504 for CLIP ViT-B/32 on ELEVATER", () => {
  const site = (inFeatures: number, outFeatures: number): SiteShape => ({
    ...{ name: "s", kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: true },
  });
  const ffn = Array.from({ length: 12 }, () => site(3072, 768));
  const projections = Array.from({ length: 12 }, () => site(768, 768));
  const countOf = (preset: keyof typeof hydraPresets, sites: SiteShape[]): number =>
    parameterCount(hydra, hydra.config.parse(hydraPresets[preset]), sites);
  expect(countOf("vtab", [...ffn, ...projections])).toBe(239_712);
  expect(countOf("glue", ffn)).toBe(331_776);
  expect(countOf("elevater", ffn)).toBe(147_504);
  expect(Object.keys(startOf(layer(hydraPresets.glue, unit(6), null)))).toEqual([
    "parDown",
    "parUp",
    "seqDown",
    "seqUp",
  ]);
});
