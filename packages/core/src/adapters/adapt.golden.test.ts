import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { full } from "../methods/full.ts";
import { lora } from "../methods/lora.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter, trainableValues } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

const golden = fileURLToPath(new URL("../../../../parity/golden/models", import.meta.url));
const files = (existsSync(golden) ? readdirSync(golden) : []).flatMap((folder) => {
  const onnx = join(golden, folder, "onnx");
  return existsSync(onnx)
    ? readdirSync(onnx)
        .filter((f) => f.endsWith(".onnx"))
        .map((f) => `${folder}/onnx/${f}`)
    : [];
});

const feedsFor = (model: Model): Record<string, RuntimeTensor> => {
  const random = testRandom(5);
  return Object.fromEntries(
    model.graph.inputs.map(({ name }) => {
      const ids = Array.from({ length: 14 }, () =>
        name.includes("ids") && !name.includes("type") && !name.includes("position")
          ? 3 + Math.floor(random() * 90)
          : name.includes("mask")
            ? 1
            : 0,
      );
      return [name, { type: "int64", dims: [2, 7], data: BigInt64Array.from(ids, BigInt) }];
    }),
  );
};

/** The real graphs of both exporters: adapt, differentiate, merge, swap. */
describe.each(files)("%s", (file) => {
  test("LoRA on all linear layers: identity, gradients, merged = unmerged = swapped", async () => {
    const model = await readModel(join(golden, file));
    const output = model.graph.outputs.find((v) => isFloating(v.type))!.name;
    const feeds = feedsFor(model);
    const run = async (m: Model, more: Record<string, RuntimeTensor> = {}): Promise<Float32Array> => {
      const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
      const all = { ...feeds, ...more };
      const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, all[n]!])), [output]);
      await session.close();
      return result[output]!.data as Float32Array;
    };
    const close = (a: Float32Array, b: Float32Array): void => {
      const scale = Math.max(...a.map(Math.abs));
      expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0) / scale).toBeLessThan(1e-5);
    };
    const config = { r: 2, alpha: 6, targetModules: "all-linear" } as const;
    const adapted = injectAdapter(model, { method: lora, config, wantedOutputs: [output] });
    const values = initialParameters(adapted, 1);
    const random = testRandom(2);
    for (const v of values.values())
      v.forEach((x, i) => {
        v[i] = x + 0.2 * (random() - 0.5);
      });
    const adapter = adapterOf(adapted, values);
    const swappable = makeSwappable(model, { method: lora, config, wantedOutputs: [output] });
    const before = await run(model);
    close(before, await run(swappable.model, adapterFeeds(swappable, null)));
    const merged = await run(mergeAdapter(model, adapter));
    close(merged, await run(swappable.model, adapterFeeds(swappable, adapter)));
    expect(merged.reduce((w, v, i) => Math.max(w, Math.abs(v - before[i]!)), 0)).toBeGreaterThan(1e-3);

    const { g } = adapted;
    const y = g.value(output);
    const loss = g.reduceSum(
      g.mul(y, y),
      y.shape.map((_, i) => i),
      false,
    );
    g.output(loss, "loss");
    const wanted = trainableValues(adapted);
    differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const session = await openBuilder(g);
    const at = async (h: number, direction: ReadonlyMap<string, Float32Array>) => {
      const parameters = adapted.parameters.map(
        ({ name, shape }) =>
          [
            name,
            { type: "float32", dims: shape, data: values.get(name)!.map((x, i) => x + h * direction.get(name)![i]!) },
          ] as const,
      );
      const all: Record<string, RuntimeTensor> = { ...feeds, ...Object.fromEntries(parameters) };
      return session.run(Object.fromEntries(session.inputNames.map((n) => [n, all[n]!])));
    };
    // Uphill, each entry at a random rate: a large slope, so that a step small enough for DistilBERT's ReLU can be seen.
    const start = await at(0, new Map([...values].map(([n, v]) => [n, new Float32Array(v.length)])));
    const gradientOf = (n: string): Float32Array => start[`d:${n}`]!.data as Float32Array;
    const direction = new Map([...values.keys()].map((n) => [n, gradientOf(n).map((d) => Math.sign(d) * random())]));
    let expected = 0;
    for (const [n, d] of direction)
      gradientOf(n).forEach((x, i) => {
        expected += x * d[i]!;
      });
    const lossAt = async (h: number): Promise<number> => ((await at(h, direction))["loss"]!.data as Float32Array)[0]!;
    const central = async (h: number): Promise<number> => ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    const found = (4 * (await central(0.0005)) - (await central(0.001))) / 3;
    expect(Math.abs(found - expected) / Math.abs(expected)).toBeLessThan(1e-2);
    await session.close();
  });
});

/** One export of each kind: the older opset of TorchScript differs in its norms only, which the first test covers. */
describe.each(files.filter((f) => !f.includes("opset17")))("%s", (file) => {
  test("every module trained as a whole: identity at start, merged = swapped", async () => {
    const model = await readModel(join(golden, file));
    const output = model.graph.outputs.find((v) => isFloating(v.type))!.name;
    const options = { method: full, config: { targetModules: ".*" }, wantedOutputs: [output] };
    const swappable = makeSwappable(model, options);
    const adapted = injectAdapter(model, options);
    const values = initialParameters(adapted, 1);
    const random = testRandom(3);
    for (const v of values.values())
      v.forEach((x, i) => {
        v[i] = x + 0.1 * (random() - 0.5);
      });
    const adapter = adapterOf(adapted, values);
    const feeds = feedsFor(model);
    const run = async (m: Model, more: Record<string, RuntimeTensor>): Promise<Float32Array> => {
      const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
      const all = { ...feeds, ...more };
      const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, all[n]!])), [output]);
      await session.close();
      return result[output]!.data as Float32Array;
    };
    const close = (a: Float32Array, b: Float32Array): void =>
      expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0) / Math.max(...a.map(Math.abs))).toBeLessThan(
        2e-5,
      );
    close(await run(model, {}), await run(swappable.model, adapterFeeds(swappable, null)));
    close(await run(mergeAdapter(model, adapter), {}), await run(swappable.model, adapterFeeds(swappable, adapter)));
  });
});
