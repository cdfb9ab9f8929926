import { describe, expect, test } from "vitest";
import { matrix } from "../linalg/matrix.ts";
import { singularValues } from "../linalg/svd.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { type Adapter, adaptedSites } from "./adapter.ts";
import { convertToLora } from "./convert-to-lora.ts";
import { mergeAdapter } from "./merge.ts";
import { frozenSite } from "./operands.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { findSites } from "./sites.ts";
import { movedAdapter } from "./testing/moved-adapter.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const model = prepareModel(tinyModel());
const targetModules = ["query", "intermediate.dense", "layer.1.output.dense"];

async function logitsOf(m: Model): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
  const input = { type: "int64", dims: [2, 3], data: BigInt64Array.from([1, 2, 3, 4, 5, 6], BigInt) } as const;
  const { logits } = await session.run({ input_ids: input }, ["logits"]);
  await session.close();
  return logits!.data as Float32Array;
}

async function expectSameModel(converted: Adapter, original: Adapter): Promise<void> {
  const [found, expected] = [
    await logitsOf(mergeAdapter(model, converted)),
    await logitsOf(mergeAdapter(model, original)),
  ];
  const largest = Math.max(...expected.map(Math.abs));
  found.forEach((v, i) => {
    expect(Math.abs(v - expected[i]!) / largest).toBeLessThan(1e-5);
  });
  expect(Math.max(...expected.map((v, i) => Math.abs(v - base[i]!)))).toBeGreaterThan(1e-3);
}
const base = await logitsOf(model);

/** Singular values of the change at every module, from the method's own delta. */
function spectra(adapter: Adapter): Map<string, Float64Array> {
  return new Map(
    adaptedSites(model.graph, findSites(model), adapter).map(({ site, method, config, tensors }) => {
      const change = method.delta!(tensors, config, site, frozenSite(model.graph, site)).weight!;
      const values = "add" in change ? change.add : change.replace;
      return [site.name, singularValues(matrix(site.weightShape[0]!, site.weightShape[1]!, values))];
    }),
  );
}

describe.each([
  ["VERA", { r: 3 }],
  ["LOHA", { r: 2 }],
  ["OFT", { oftBlockSize: 4 }],
  ["HIRA", { r: 2 }],
  ["KRONA", { a1: 4, a2: 2 }],
  ["IA3", { feedforwardModules: targetModules }],
  ["LORA", { r: 2, useDora: true }],
] as const)("%s %j", (type, config) => {
  const adapter = movedAdapter(model, type, { ...config, targetModules }, 3);

  test("at full rank the model is the same", async () => {
    const { adapter: converted, sites, error } = convertToLora(model, adapter, { rank: 100 });
    expect(converted.type).toBe("LORA");
    expect(sites.map((s) => s.rank)).toEqual(sites.map(() => 8)); // the smaller width
    expect(Math.max(error, ...sites.map((s) => s.error))).toBeLessThan(1e-6);
    await expectSameModel(converted, adapter);
  });

  test("a fixed rank loses what the other singular values hold", () => {
    const { sites, error } = convertToLora(model, adapter, { rank: 2 });
    const known = spectra(adapter);
    expect(sites).toHaveLength(5);
    let [lost, total] = [0, 0];
    for (const site of sites) {
      const squared = [...known.get(site.site)!].map((s) => s * s);
      const all = squared.reduce((a, b) => a + b, 0);
      const rest = squared.slice(2).reduce((a, b) => a + b, 0);
      expect(Math.abs(site.error - Math.sqrt(rest / all))).toBeLessThan(1e-6);
      [lost, total] = [lost + rest, total + all];
    }
    expect(Math.abs(error - Math.sqrt(lost / total))).toBeLessThan(1e-6);
  });

  test("by explained variance the rank is the smallest that is enough", () => {
    const { adapter: converted, sites } = convertToLora(model, adapter, { explainedVariance: 0.9 });
    const known = spectra(adapter);
    for (const { site, rank, error } of sites) {
      const squared = [...known.get(site)!].map((s) => s * s);
      const share = (r: number): number =>
        squared.slice(0, r).reduce((a, b) => a + b, 0) / squared.reduce((a, b) => a + b, 0);
      expect(1 - error ** 2).toBeGreaterThan(0.9 - 1e-9);
      expect(share(rank - 1)).toBeLessThan(0.9);
      expect(converted.tensors.get(`${site}.lora_A.weight`)!.dims[0]).toBe(rank);
    }
  });
});

test("LoRA itself is exact at its own rank, which is what explains everything", async () => {
  const config = { r: 3, alpha: 5, useRslora: true, rankPattern: { query: 2 }, targetModules };
  const adapter = movedAdapter(model, "LORA", config, 4);
  const { adapter: converted, sites, error } = convertToLora(model, adapter, { explainedVariance: 1 });
  expect(sites.map(({ site, rank }) => [site.endsWith("query"), rank])).toEqual(
    sites.map(({ site }) => [site.endsWith("query"), site.endsWith("query") ? 2 : 3]),
  );
  expect(error).toBeLessThan(1e-6);
  await expectSameModel(converted, adapter);
  // Ranks of single modules survive the file.
  const files = toPeft(converted);
  expect(files.config["use_rslora"]).toBe(false);
  await expectSameModel(fromPeft(files), adapter);
});

test("weights that are replaced are converted, modules saved as a whole are kept", async () => {
  const adapter = movedAdapter(model, "FULL", { targetModules: ["query"], modulesToSave: ["classifier"] }, 5);
  expect(() => convertToLora(model, adapter, { rank: 8 })).toThrow(expect.objectContaining({ code: "NOT_LORA" }));
  // The same with the biases that the model has.
  const sites = new Map(findSites(model).map((site) => [site.name, site]));
  const tensors = new Map(
    [...adapter.tensors].map(([name, tensor]) => {
      const site = sites.get(name.replace(/\.bias$/, ""));
      return [name, site ? { ...tensor, data: frozenSite(model.graph, site).bias() } : tensor];
    }),
  );
  const kept = { ...adapter, tensors };
  const { adapter: converted, sites: made } = convertToLora(model, kept, { rank: 8 });
  expect(made.map((s) => s.site.split(".").at(-1))).toEqual(["query", "query"]);
  expect(converted.tensors.get("classifier.weight")).toEqual(kept.tensors.get("classifier.weight"));
  expect(converted.config.modulesToSave).toEqual(["classifier"]);
  await expectSameModel(converted, kept);
});

test("what changes nothing has rank one and no error", () => {
  const adapter = movedAdapter(model, "LORA", { r: 3, targetModules }, 6, 0);
  const { sites, error } = convertToLora(model, adapter, { explainedVariance: 0.5 });
  expect([error, ...sites.map((s) => s.error)]).toEqual([0, ...sites.map(() => 0)]);
  expect(sites.every((s) => s.rank === 1)).toBe(true);
});

test.each([
  ["BITFIT", {}, /the bias of "encoder.*" changes/],
  ["IA3", { targetModules: ["value"], feedforwardModules: [] }, /the bias of .*value" changes/],
  ["BEFT", { targetModules: ["value"] }, /the bias of .*value" changes/],
  ["LN_TUNING", {}, /LayerNorm" is of kind norm/],
  ["LORA", { r: 2, targetModules: ["word_embeddings", "query"] }, /word_embeddings" is of kind embedding/],
] as const)("%s is refused where it changes what LoRA cannot", (type, config, reason) => {
  const adapter = movedAdapter(model, type, config, 7);
  expect(() => convertToLora(model, adapter, { rank: 2 })).toThrow(
    expect.objectContaining({ code: "NOT_LORA", message: expect.stringMatching(reason) }),
  );
});

test.each([{ rank: 0 }, { rank: 1.5 }, { explainedVariance: 0 }, { explainedVariance: 1.1 }, { rank: Number.NaN }])(
  "a size of %j is refused",
  (size) => {
    const adapter = movedAdapter(model, "LORA", { r: 2, targetModules }, 8);
    expect(() => convertToLora(model, adapter, size)).toThrow(expect.objectContaining({ code: "LORA_SIZE" }));
  },
);
