import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterOf } from "../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter, unmergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import { findSites } from "../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { unwrappedNames, wrappedNames } from "../adapters/wrapped-names.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import type { Value } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { lora } from "./lora.ts";

/** Mixtures of experts with adapters of peft, whose target_parameters name the experts; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/experts", import.meta.url));
const cases = readdirSync(golden).flatMap((name) =>
  readdirSync(join(golden, name))
    .filter((file) => file.endsWith(".onnx"))
    .map((file) => [name, file] as const),
);

test("there are goldens", () => {
  expect(existsSync(golden)).toBe(true);
  expect(cases.map(([name, file]) => `${name}/${file.slice(6, -5)}`).sort()).toEqual([
    ...["gpt-oss/dynamo", "gpt-oss/loop", "gpt-oss/torchscript", "llama4/dynamo", "llama4/torchscript"],
    ...["mixtral/dynamo", "mixtral/loop", "mixtral/torchscript"],
  ]);
});

const close = (a: Float32Array, b: Float32Array, tolerance: number): void => {
  expect(a.length).toBe(b.length);
  expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - (b[i] as number))), 0)).toBeLessThan(tolerance);
};

describe.each(cases)("%s, %s", async (name, file) => {
  const folder = join(golden, name);
  const model = await readModel(join(folder, file));
  const read = await readPeftFolder(join(folder, "adapter"));
  const adapter = fromPeft(read);
  const { tensors } = await readSafetensors(join(folder, "golden.safetensors"));
  const given = (key: string): Float32Array => toFloat32Array(tensors.get(key)!);
  const input = tensors.get("input")!;
  const feeds: Feeds =
    input.type === "int64"
      ? { input_ids: { type: "int64", dims: input.dims, data: BigInt64Array.from(toNumbers(input), BigInt) } }
      : { x: { type: "float32", dims: input.dims, data: toFloat32Array(input) } };
  const run = async (m: typeof model, more: Feeds = {}): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
    const { logits } = await session.run({ ...feeds, ...more });
    await session.close();
    return logits!.data as Float32Array;
  };
  const sites = findSites(model);
  const fitted = unwrappedNames(adapter, sites);

  test("the experts are found under the names of their parameters", () => {
    const module = name === "mixtral" ? "model.layers.0.mlp.experts" : "mlp.experts";
    const layout = name === "mixtral" ? "out_in" : "in_out";
    const shape = (out: number, width: number): number[] => (layout === "out_in" ? [3, out, width] : [3, width, out]);
    expect(
      sites
        .filter(({ kind }) => kind === "experts")
        .map((s) => [s.name, s.inFeatures, s.outFeatures, s.weightShape, s.weightLayout]),
    ).toEqual([
      [`${module}.gate_up_proj`, 8, 12, shape(12, 8), layout],
      [`${module}.down_proj`, 6, 8, shape(8, 6), layout],
    ]);
  });

  test("gives peft's logits, merged and fed, and the base's without", async () => {
    close(await run(model), given("base.logits"), 1e-5);
    const merged = mergeAdapter(model, adapter);
    close(await run(merged), given("output.logits"), 1e-5);
    close(await run(unmergeAdapter(merged, adapter)), given("base.logits"), 1e-5);
    const swappable = makeSwappable(model, { method: lora, config: adapter.config });
    close(await run(swappable.model, adapterFeeds(swappable, adapter)), given("output.logits"), 1e-5);
    close(await run(swappable.model, adapterFeeds(swappable, null)), given("base.logits"), 1e-5);
  });

  test("gradients are PyTorch's", async () => {
    const adapted = injectAdapter(model, { method: lora, config: adapter.config });
    const { g } = adapted;
    const logits = adapted.outputs.get("logits") as Value;
    const seed = g.input("seed", "float32", logits.shape);
    const wanted = trainableValues(adapted);
    differentiate(g, [{ value: logits, gradient: seed }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const session = await openBuilder(g);
    const all: Record<string, RuntimeTensor> = {
      ...feeds,
      seed: { type: "float32", dims: tensors.get("gradient.logits")!.dims, data: given("gradient.logits") },
    };
    for (const [key, { dims, data }] of fitted.tensors) all[key] = { type: "float32", dims, data };
    const found = await session.run(Object.fromEntries(session.inputNames.map((key) => [key, all[key]!])));
    await session.close();
    // Under the names and in the layout of the file.
    const named = new Map(
      wanted.map(({ name: key }) => {
        const { dims, data } = found[`d:${key}`]!;
        return [key, { dims, data: data as Float32Array }] as const;
      }),
    );
    const wrapped = wrappedNames({ ...adapter, tensors: named }, { swap: name === "llama4" });
    expect(wrapped.tensors.size).toBe([...tensors.keys()].filter((key) => /^gradient\..*lora/.test(key)).length);
    for (const [key, { data }] of wrapped.tensors) close(data, given(`gradient.base_model.model.${key}`), 2e-5);
  });

  test("its config chooses exactly its parameters, which are written again as they were", () => {
    const adapted = injectAdapter(model, { method: lora, config: adapter.config });
    const ours = adapterOf(adapted, new Map([...fitted.tensors].map(([key, { data }]) => [key, data])));
    expect(new Map([...ours.tensors].sort())).toEqual(new Map([...fitted.tensors].sort()));
    for (const one of [adapter, { ...ours, otherFields: adapter.otherFields! }]) {
      const again = toPeft(one, { swapExperts: name === "llama4" && one !== adapter });
      for (const [field, value] of Object.entries(read.config)) {
        if (value !== null) expect({ field, value: again.config[field] }).toEqual({ field, value });
      }
      expect([...again.tensors.keys()].sort()).toEqual([...read.tensors.keys()].sort());
      for (const [key, tensor] of read.tensors) expect(toNumbers(again.tensors.get(key)!)).toEqual(toNumbers(tensor));
    }
  });
});
