import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import type { Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { methodOf } from "./registry.ts";

/** Convolutions of three, two and one axes, one of them in groups, one strided and dilated with a 3x2 kernel; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/convolution-methods", import.meta.url));
const model = await readModel(join(golden, "model.onnx"));
const draw = testRandom(7);
const dims = [2, 2, 2, 7, 6];
const pixels: RuntimeTensor = { type: "float32", dims, data: Float32Array.from({ length: 336 }, () => draw() * 2 - 1) };

async function run(m: Model, feeds: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
  const { logits } = await session.run({ pixels, ...feeds }, ["logits"]);
  await session.close();
  return logits!.data as Float32Array;
}

const distance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

// Where peft has no such kernels, or leaves strides and dilations out.
test.each([
  ["HRA", { r: 4 }],
  ["HRA", { r: 3, applyGS: true }],
  ["OFT", { oftBlockSize: 6 }],
  ["OFT", { oftBlockSize: 6, blockShare: true, useCayleyNeumann: false }],
  ["BOFT", { boftBlockSize: 6, boftNButterflyFactor: 2 }],
  ["HIRA", { r: 2 }],
  ["IA3", { feedforwardModules: ["image"] }],
  ["ADALORA", { initR: 3 }],
  ["LOHA", { r: 2, useEffectiveConv2d: true }],
  ["LOKR", { r: 2, decomposeFactor: 1, useEffectiveConv2d: true }],
  ["LORA", { r: 2, useDora: true }],
  ["LORA", { r: 2, loraBias: true }],
])("%s %j at a strided and dilated kernel that is not square: merged equals unmerged", async (type, options) => {
  const given = { method: methodOf(type), config: { ...options, targetModules: ["image"] } };
  const adapted = injectAdapter(model, given);
  const random = testRandom(3);
  const start = initialParameters(adapted, 1);
  const adapter = adapterOf(
    adapted,
    new Map([...start].map(([name, v]) => [name, v.map((x) => x + random() - 0.5)] as const)),
  );
  const swappable = makeSwappable(model, given);
  const unmerged = await run(swappable.model, adapterFeeds(swappable, adapter));
  expect(distance(await run(mergeAdapter(model, adapter)), unmerged)).toBeLessThan(1e-5);
  expect(distance(unmerged, await run(model))).toBeGreaterThan(1e-3);
});

describe("convolutions that peft does not adapt are refused", () => {
  test.each(["HRA", "OFT", "BOFT", "HIRA", "ADALORA"])("%s in groups", (type) => {
    const config = { targetModules: ["grouped"] };
    expect(() => injectAdapter(model, { method: methodOf(type), config })).toThrow(
      /"grouped": it is a convolution in 2 groups, and the change reaches across them/,
    );
  });

  test.each([
    ["HRA", "line", "1 axis, and those of 2 are adapted"],
    ["OFT", "volume", "3 axes, and those of 2 are adapted"],
    ["BOFT", "line", "1 axis, and those of 2 are adapted"],
    ["ADALORA", "volume", "3 axes, and those of 2 are adapted"],
    ["IA3", "line", "1 axis, and those of 2 or 3 are adapted"],
    ["LOHA", "volume", "3 axes, and those of 1 or 2 are adapted"],
    ["LOKR", "volume", "3 axes, and those of 1 or 2 are adapted"],
  ])("%s at %s", (type, module, reason) => {
    const config = { targetModules: [module] };
    expect(() => injectAdapter(model, { method: methodOf(type), config })).toThrow(
      expect.objectContaining({ code: "TARGETS_UNSUITABLE", message: expect.stringContaining(reason) }),
    );
  });
});
