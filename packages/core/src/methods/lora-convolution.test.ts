import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Adapter, adapterOf, initialParameters } from "../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter, unmergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import { findSites } from "../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { checkGradient, testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { type LoraConfig, lora } from "./lora.ts";
import { convolutionUpdate } from "./lora-convolution.ts";

/** Convolutions of three, two (strided, grouped, 1x1) and one axes, adapted by peft; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/convolutions", import.meta.url));
const model = await readModel(join(golden, "model.onnx"));
const { tensors } = await readSafetensors(join(golden, "golden.safetensors"));
const valuesOf = (name: string): Float32Array => toFloat32Array(tensors.get(name)!);
const pixels: RuntimeTensor = {
  type: "float32",
  dims: tensors.get("input.pixels")!.dims,
  data: valuesOf("input.pixels"),
};

async function run(m: Model, feeds: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
  const { logits } = await session.run({ pixels, ...feeds }, ["logits"]);
  await session.close();
  return logits!.data as Float32Array;
}

const close = (a: Float32Array, b: Float32Array): void => {
  expect(a.length).toBe(b.length);
  const scale = Math.max(...b.map(Math.abs));
  expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0) / scale).toBeLessThan(1e-5);
};

/** An adapter away from where it starts. */
function moved(adapted: AdaptedGraph): Adapter {
  const random = testRandom(3);
  const values = [...initialParameters(adapted, 1)].map(([name, v]) => {
    return [name, v.map((x) => x + 0.2 * (random() - 0.5))] as const;
  });
  return adapterOf(adapted, new Map(values));
}

const inject = (config: AdapterConfigInput<LoraConfig>): AdaptedGraph => injectAdapter(model, { method: lora, config });
const ungrouped = { r: 3, alpha: 5, targetModules: ["volume", "image", "point", "line"] };

test("sites know how their kernels move", () => {
  const site = findSites(model).find(({ name }) => name === "grouped");
  expect(site).toMatchObject({
    kind: "conv",
    inFeatures: 6,
    outFeatures: 8,
    weightShape: [8, 3, 3, 3],
    hasBias: false,
  });
  expect(site?.window).toEqual({ strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1], groups: 2 });
});

describe("an adapter that peft made", () => {
  test("has our names and shapes, and is written as it was read", async () => {
    const read = await readPeftFolder(golden);
    const adapter = fromPeft(read);
    const { parameters } = inject(adapter.config);
    const ours = parameters.map(({ name, shape }) => [name, shape] as const);
    expect(new Map(ours)).toEqual(new Map([...adapter.tensors].map(([name, { dims }]) => [name, dims])));
    const again = toPeft(adapter);
    for (const [name, tensor] of read.tensors) expect(again.tensors.get(name)?.dims).toEqual(tensor.dims);
    expect(again.config["rank_pattern"]).toEqual({ point: 2 });
  });

  test("gives peft's logits and gradients", async () => {
    const adapter = fromPeft(await readPeftFolder(golden));
    const adapted = inject(adapter.config);
    const { g, outputs } = adapted;
    const logits = outputs.get("logits")!;
    const gradient = g.input("d_logits", "float32", logits.shape);
    const wanted = trainableValues(adapted);
    g.output(logits, "y");
    differentiate(g, [{ value: logits, gradient }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const session = await openBuilder(g);
    const feeds = [...adapter.tensors].map(
      ([name, { dims, data }]) => [name, { type: "float32", dims, data }] as const,
    );
    const d_logits = { type: "float32", dims: [2, 3], data: valuesOf("gradient.logits") } as const;
    const found = await session.run({ pixels, d_logits, ...Object.fromEntries(feeds) });
    await session.close();
    close(found["y"]!.data as Float32Array, valuesOf("output.logits"));
    for (const { name } of wanted) {
      close(found[`d:${name}`]!.data as Float32Array, valuesOf(`gradient.base_model.model.${name}`));
    }
  });

  test("is served as inputs, and its absence is the base model", async () => {
    const adapter = fromPeft(await readPeftFolder(golden));
    const swappable = makeSwappable(model, { method: lora, config: adapter.config });
    close(await run(swappable.model, adapterFeeds(swappable, adapter)), valuesOf("output.logits"));
    // Also the second sample, and in memory that held other numbers before.
    for (let i = 0; i < 3; i++)
      expect(await run(swappable.model, adapterFeeds(swappable, null))).toEqual(await run(model));
    close(await run(model), valuesOf("base.logits"));
  });

  test("cannot be merged where there are groups", async () => {
    const adapter = fromPeft(await readPeftFolder(golden));
    expect(() => mergeAdapter(model, adapter)).toThrow(expect.objectContaining({ code: "NO_DELTA" }));
    expect(() => mergeAdapter(model, adapter)).toThrow(/"grouped" cannot be merged: the convolution has 2 groups/);
  });
});

describe("our own", () => {
  test("starts as the identity, also with groups; moved it is not", async () => {
    const config = { ...ungrouped, r: 4, targetModules: [...ungrouped.targetModules, "grouped"] };
    const swappable = makeSwappable(model, { method: lora, config });
    const adapted = inject(config);
    const start = adapterOf(adapted, initialParameters(adapted, 1));
    const base = await run(model);
    expect(await run(swappable.model, adapterFeeds(swappable, start))).toEqual(base);
    const other = await run(swappable.model, adapterFeeds(swappable, moved(adapted)));
    expect(other.reduce((w, v, i) => Math.max(w, Math.abs(v - base[i]!)), 0)).toBeGreaterThan(1e-3);
  });

  test("merged equals unmerged, unmerging gives the base back, saved equals read", async () => {
    const adapter = moved(inject(ungrouped));
    const swappable = makeSwappable(model, { method: lora, config: ungrouped });
    const unmerged = await run(swappable.model, adapterFeeds(swappable, adapter));
    const merged = mergeAdapter(model, adapter);
    close(await run(merged), unmerged);
    close(await run(unmergeAdapter(merged, adapter)), await run(model));
    expect(fromPeft(toPeft(adapter)).tensors).toEqual(adapter.tensors);
  });

  test("the groups must divide the rank", () => {
    expect(() => inject({ r: 3, targetModules: ["grouped"] })).toThrow(
      expect.objectContaining({
        code: "RANK_GROUPS",
        message: expect.stringContaining('2 groups of the convolution "grouped"'),
      }),
    );
  });

  test("automatic padding and dilation are those of the module", async () => {
    const random = testRandom(1);
    const weight = (dims: number[]) =>
      tensorFrom(
        "float32",
        dims,
        Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() - 0.5),
      );
    const g = createBuilder(17);
    const x = g.input("pixels", "float32", ["batch", 4, "places"]);
    const same = g.op(
      "Conv",
      [x, g.initializer("same.weight", weight([5, 4, 4]))],
      { auto_pad: "SAME_LOWER", strides: [2] },
      { name: "/same/Conv" },
    )[0]!;
    const dilated = g.op(
      "Conv",
      [same, g.initializer("dilated.weight", weight([3, 5, 3]))],
      { dilations: [2], pads: [3, 1] },
      { name: "/dilated/Conv" },
    )[0]!;
    g.output(dilated, "logits");
    const own = toModel(g.finish(), 17);
    const config = { r: 2, targetModules: ["same", "dilated"] };
    const adapter = moved(injectAdapter(own, { method: lora, config }));
    const swappable = makeSwappable(own, { method: lora, config });
    const line: RuntimeTensor = { type: "float32", dims: [2, 4, 21], data: pixels.data.slice(0, 168) as Float32Array };
    const fed = await run(swappable.model, { pixels: line, ...adapterFeeds(swappable, adapter) });
    close(fed, await run(mergeAdapter(own, adapter), { pixels: line }));
  });

  test.each([
    { groups: 1, strides: [2, 1], pads: [1, 0, 1, 1] },
    { groups: 2, strides: [1, 1], pads: [0, 0, 0, 0] },
  ])("gradients of A, B and x with $groups groups equal finite differences", ({ groups, strides, pads }) => {
    const site = {
      name: "image",
      kind: "conv",
      inFeatures: 4,
      outFeatures: 6,
      weightShape: [6, 4 / groups, 3, 2],
      hasBias: false,
      window: { strides, dilations: [1, 1], pads, groups },
    } as const;
    const dims = [
      [2, 4, 5, 4],
      [4, 4, 3, 2],
      [6, 4 / groups, 1, 1],
    ];
    return checkGradient(
      (g, [x, A, B]) => convolutionUpdate(g, x!, A!, B!, site, 0.5),
      dims.map((d) => ({ dims: d })),
      { symbolic: [] },
    );
  });
});
