import {
  type Adapter,
  adapterFeeds,
  encodeModel,
  fromPeft,
  injectAdapter,
  makeSwappable,
  mergeAdapter,
  methodOf,
  onnxruntimeNode,
  type RuntimeTensor,
  readPeftFolder,
  toModel,
} from "@onnx-peft/core";
import { describe, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { largestDifference } from "./testing/compare.ts";
import { feedsOf, floatsOf, goldenPath, readGolden } from "./testing/golden.ts";
import { goldenTask } from "./testing/models.ts";

/** Adapters that peft made and ran, over the model built from its checkpoint. */
describe.each(["lora", "lora-patterns", "lora-all-linear", "lora-regex", "ln-tuning"])("peft's %s", (name) => {
  const read = async () => {
    const { model } = await loadTextModel({ model: goldenPath("models", "bert") }, goldenTask("bert").head);
    const adapter = fromPeft(await readPeftFolder(goldenPath("adapters", name)));
    return { model, adapter, tensors: await readGolden("adapters", name, "golden.safetensors") };
  };
  const logitsOf = async (
    model: Parameters<typeof encodeModel>[0],
    tensors: Awaited<ReturnType<typeof readGolden>>,
    more: Readonly<Record<string, RuntimeTensor>> = {},
  ): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    const result = await session.run({ ...feedsOf(tensors, "input.", session.inputNames), ...more });
    await session.close();
    return result["logits"]!.data as Float32Array;
  };
  const fed = ({ tensors }: Adapter): Record<string, RuntimeTensor> =>
    Object.fromEntries([...tensors].map(([key, { dims, data }]) => [key, { type: "float32", dims, data }]));

  test("injected, merged and fed: peft's logits; without it the base's", async () => {
    const { model, adapter, tensors } = await read();
    const { config } = adapter;
    const method = methodOf(adapter.type);
    const adapted = injectAdapter(model, { method, config });
    for (const [output, value] of adapted.outputs) adapted.g.output(value, output);
    const injected = toModel(adapted.g.finish(), adapted.g.opset);
    const swappable = makeSwappable(model, { method, config });
    const [withAdapter, without] = [floatsOf(tensors, "output.logits"), floatsOf(tensors, "base.logits")];
    const found = {
      injected: await logitsOf(injected, tensors, fed(adapter)),
      merged: await logitsOf(mergeAdapter(model, adapter), tensors),
      swapped: await logitsOf(swappable.model, tensors, adapterFeeds(swappable, adapter)),
    };
    for (const [way, logits] of Object.entries(found))
      expect(largestDifference(logits, withAdapter), way).toBeLessThan(1e-5);
    expect(largestDifference(await logitsOf(model, tensors), without)).toBeLessThan(1e-5);
    const disabled = await logitsOf(swappable.model, tensors, adapterFeeds(swappable, null));
    expect(largestDifference(disabled, without)).toBeLessThan(1e-5);
    expect(largestDifference(withAdapter, without)).toBeGreaterThan(1e-3);
  });

  test("a changed tensor is seen", async () => {
    const { model, adapter, tensors } = await read();
    const [key, first] = [...adapter.tensors][0]!;
    const changed = new Map(adapter.tensors).set(key, { ...first, data: first.data.map((v) => v + 0.1) });
    const logits = await logitsOf(mergeAdapter(model, { ...adapter, tensors: changed }), tensors);
    expect(largestDifference(logits, floatsOf(tensors, "output.logits"))).toBeGreaterThan(1e-4);
  });
});
