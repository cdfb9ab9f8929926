import { expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { frozenSite } from "../adapters/operands.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import { findSites } from "../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { quantizeModel } from "../quantization/quantize-model.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { testRandom } from "../testing/check-gradient.ts";
import type { AdapterTensor } from "./method.ts";
import { methodOf } from "./registry.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(61);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const biases = [draw(32).data, draw(32).data];
const { model: packed } = quantizeModel(toyModel(biases.map((bias) => ({ weight: draw(32, 32), bias }))), {
  type: "nf4",
});
/** The same model with the weights that the 4-bit one stands for. */
const plain = toyModel(
  findSites(packed).map((site, i) => ({
    weight: { dims: [32, 32], data: frozenSite(packed.graph, site).weight() },
    bias: biases[i]!,
  })),
);
const x = { type: "float32", ...draw(4, 32) } as const;

test.each([
  ["PACA", { r: 4, alpha: 6 }],
  ["PACA", { r: 4, alpha: 6, form: "split" }],
  ["SVF", {}],
  ["LOLDU", { r: 8 }],
  ["LOCA", { nFrequency: 20, scaling: 4 }],
  ["KRONA", { a1: 4, a2: 8 }],
  ["MOS", { r: 4, equivalentRank: 3, privateRank: 1, shardsPerVector: 4 }],
] as const)("over 4-bit weights %s %j is what it is over the weights they stand for", async (type, own) => {
  const config = { ...own, targetModules: ["dense"] } as AdapterConfigInput;
  const method = methodOf(type);
  const valuesOver = (model: Model) => initialParameters(injectAdapter(model, { method, config }), 4);
  const [start, same] = [valuesOver(packed), valuesOver(plain)];
  const noise = testRandom(8);
  const adapted = injectAdapter(packed, { method, config });
  for (const { name, trainable } of adapted.parameters) {
    const [a, b] = [start.get(name)!, same.get(name)!];
    a.forEach((v, i) => {
      expect(Math.abs(v - b[i]!)).toBeLessThan(1e-5);
    });
    if (trainable)
      start.set(
        name,
        a.map((v) => v + 0.2 * (noise() - 0.5)),
      );
  }
  const adapter = adapterOf(adapted, start);
  const outputs: Float32Array[] = [];
  for (const model of [packed, plain])
    for (const served of [adapter, null]) {
      const swappable = makeSwappable(model, { method, config });
      const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
      const { y } = await session.run({ x, ...adapterFeeds(swappable, served) });
      await session.close();
      outputs.push(y!.data as Float32Array);
    }
  const [moved, base, expected] = outputs;
  expect(Math.max(...moved!.map((v, i) => Math.abs(v - base![i]!)))).toBeGreaterThan(1e-2);
  moved!.forEach((v, i) => {
    expect(Math.abs(v - expected![i]!)).toBeLessThan(1e-4);
  });
});
