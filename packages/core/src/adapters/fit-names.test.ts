import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { lora } from "../methods/lora.ts";
import type { Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { adapterOf } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

/** A ViT exported under the names of transformers 5. */
const file = fileURLToPath(new URL("../../../../parity/golden/exports/vit/model_torchscript17.onnx", import.meta.url));
const pixels = (): RuntimeTensor => {
  const random = testRandom(2);
  return { type: "float32", dims: [1, 3, 16, 16], data: Float32Array.from({ length: 768 }, () => random() - 0.5) };
};

async function logits(model: Model, more: Readonly<Record<string, RuntimeTensor>> = {}): Promise<number[]> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const feeds = { pixel_values: pixels(), ...more };
  const result = await session.run(
    Object.fromEntries(session.inputNames.map((name) => [name, feeds[name as "pixel_values"]])),
  );
  await session.close();
  return [...(result["logits"]!.data as Float32Array)];
}

test("an adapter under the names of the hub fits an export under the new ones: merged, swapped, with its rank patterns", async () => {
  const model = await readModel(file);
  const config = {
    r: 2,
    rankPattern: { "layer.1.attention.attention.query": 3 },
    targetModules: ["query", "value"],
  };
  const old = injectAdapter(model, { method: lora, config, naming: "transformers-4" });
  expect(old.parameters.map((p) => p.name)).toContain("vit.encoder.layer.0.attention.attention.query.lora_A.weight");
  expect(old.parameters.find((p) => p.name.includes("layer.1.attention.attention.query.lora_A"))?.shape).toEqual([
    3, 32,
  ]);
  const random = testRandom(4);
  const values = new Map(
    old.parameters.map(({ name, shape }) => [
      name,
      Float32Array.from({ length: shape[0]! * shape[1]! }, () => random() - 0.5),
    ]),
  );
  const adapter = adapterOf(old, values);
  const merged = await logits(mergeAdapter(model, adapter));
  const swappable = makeSwappable(model, { method: lora, config: { ...config, rankPattern: {} } });
  expect(swappable.parameters[0]?.name).toBe("vit.layers.0.attention.q_proj.lora_A.weight");
  const swapped = await logits(swappable.model, adapterFeeds(swappable, adapter));
  const base = await logits(model);
  merged.forEach((x, i) => {
    expect(x).toBeCloseTo(swapped[i]!, 5);
  });
  expect(Math.max(...merged.map((x, i) => Math.abs(x - base[i]!)))).toBeGreaterThan(1e-2);
});

test("an adapter of another model is refused under every name", async () => {
  const model = await readModel(file);
  const tensors = new Map([
    ["bert.encoder.layer.0.attention.self.query.lora_A.weight", { dims: [2, 32], data: new Float32Array(64) }],
  ]);
  expect(() => mergeAdapter(model, { type: "LORA", config: { r: 2, alpha: 2 }, tensors } as never)).toThrow(
    expect.objectContaining({ code: "ADAPTER_MISMATCH" }),
  );
});
