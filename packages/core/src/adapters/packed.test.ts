import { describe, expect, test } from "vitest";
import { z } from "zod";
import { describeModel } from "../describe/describe.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { full } from "../methods/full.ts";
import { ones } from "../methods/init.ts";
import { lora } from "../methods/lora.ts";
import { defineMethod } from "../methods/method.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { initializersOf } from "../quantization/packed-weight.ts";
import { dynamic, type PackedLinear, packedForms, randomFloats } from "../quantization/testing/packed-forms.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { type Adapter, adapterOf, initialParameters } from "./adapter.ts";
import { type AdaptedGraph, injectAdapter } from "./inject.ts";
import { mergeAdapter, unmergeAdapter } from "./merge.ts";
import { findSites } from "./sites.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

const x = { type: "float32", dims: [3, 48], data: randomFloats(3 * 48, 1) } as const;

/** x -> first [32, 48] -> tanh -> second [6, 32] */
function twoLayers(linear: PackedLinear): Model {
  const g = createBuilder(21);
  const hidden = g.tanh(linear(g, g.input("x", "float32", ["batch", 48]), "block.first", 32, 48, 5));
  g.output(linear(g, hidden, "block.second", 6, 32, 6), "y");
  return toModel(g.finish(), 21);
}

async function run(model: Model, feeds: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { y } = await session.run({ x, ...feeds });
  await session.close();
  return y?.data as Float32Array;
}

async function runAdapted(
  { g, model, outputs }: AdaptedGraph,
  values: ReadonlyMap<string, Float32Array>,
  parameters: AdaptedGraph["parameters"],
): Promise<Float32Array> {
  g.output(outputs.get("y")!, "y");
  const opset = model.opsets.get("") ?? 21;
  const feeds = parameters.map(
    ({ name, shape }) => [name, { type: "float32", dims: shape, data: values.get(name)! }] as const,
  );
  return run(toModel(g.finish(), opset), Object.fromEntries(feeds));
}

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce(
    (most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))),
    a.length === b.length ? 0 : Number.POSITIVE_INFINITY,
  );

/** y + scale * (base(x) - (x·Wᵀ + bias)): any scale changes nothing when weight and module in the graph are the file's. */
const differences = defineMethod<object>({
  ...{ type: "DIFFERENCES", paper: null, kinds: ["linear"], identityAtStart: true, neutral: "empty" },
  ...{ config: z.strictObject({}), defaultTargets: () => true, delta: null, keys: { scale: "scale" } },
  parameters: () => ({ scale: { shape: [1], init: ones } }),
  forward(g, { x, y, weight, bias, base }, { scale }) {
    const product = g.matMul(x, g.transpose(weight(), [1, 0]));
    const frozenBias = bias();
    const difference = g.sub(base(x), frozenBias ? g.add(product, frozenBias) : product);
    return g.add(y, g.mul(difference, scale as Value));
  },
});

const r4 = { r: 4, alpha: 8, targetModules: ["first"] };

function trained(model: Model): { adapter: Adapter; values: Map<string, Float32Array>; adapted: AdaptedGraph } {
  const adapted = injectAdapter(model, { method: lora, config: r4 });
  const values = initialParameters(adapted, 3);
  for (const { name, role } of adapted.parameters) {
    if (role === "B") values.set(name, randomFloats(values.get(name)!.length, 9, 0.3));
  }
  return { adapter: adapterOf(adapted, values), values, adapted };
}

/** Integer arithmetic rounds its input, the merged product does not: half a step of 2 / 255 over 48 weights of 0.01 * 128. */
const allForms = Object.entries({ ...packedForms, "MatMulInteger with scales": dynamic });
const toleranceOf = (form: string): number => (form.startsWith("MatMulInteger") ? 0.15 : 2e-5);

describe.each(allForms)("%s", (form, linear) => {
  const model = twoLayers(linear);
  const [first, second] = findSites(model);
  const tolerance = toleranceOf(form);

  test("the file is not changed by an adapter that changes nothing", async () => {
    const { adapted, values } = trained(model);
    for (const { name, role } of adapted.parameters) if (role === "B") values.get(name)!.fill(0);
    expect(await runAdapted(adapted, values, adapted.parameters)).toEqual(await run(model));
  });

  test("merged equals injected; what was not adapted stays packed, and unmerging gives the base back", async () => {
    const { adapter, adapted, values } = trained(model);
    const injected = await runAdapted(adapted, values, adapted.parameters);
    const merged = mergeAdapter(model, adapter);
    expect(largestDifference(injected, await run(model))).toBeGreaterThan(3 * tolerance);
    expect(largestDifference(await run(merged), injected)).toBeLessThan(tolerance);
    const kept = initializersOf(second!.packed!);
    for (const name of kept) expect(merged.graph.initializers.get(name)).toBe(model.graph.initializers.get(name));
    for (const name of initializersOf(first!.packed!)) expect(merged.graph.initializers.has(name)).toBe(false);
    const again = findSites(merged);
    expect(again.map((s) => [s.name, s.packed?.form])).toEqual([
      ["block.first", undefined],
      ["block.second", second!.packed!.form],
    ]);
    expect(largestDifference(await run(unmergeAdapter(merged, adapter)), await run(model))).toBeLessThan(tolerance);
  });

  test("one session serves adapters and none", async () => {
    const { adapter, adapted, values } = trained(model);
    const swappable = makeSwappable(model, { method: lora, config: r4 });
    expect(await run(swappable.model, adapterFeeds(swappable, null))).toEqual(await run(model));
    const injected = await runAdapted(adapted, values, adapted.parameters);
    expect(largestDifference(await run(swappable.model, adapterFeeds(swappable, adapter)), injected)).toBeLessThan(
      1e-6,
    );
  });

  test("a weight that is trained as a whole starts at the dequantised values", async () => {
    const adapted = injectAdapter(model, { method: full, config: { targetModules: ["first"] } });
    const values = initialParameters(adapted, 1);
    expect(largestDifference(await runAdapted(adapted, values, adapted.parameters), await run(model))).toBeLessThan(
      tolerance,
    );
    expect(adapted.g.nodes.filter((n) => n.op === second!.uses[0]!.weight.node.op).length).toBeGreaterThan(0);
  });

  test("a method sees the frozen weight and the frozen module as values of the graph", async () => {
    const adapted = injectAdapter(model, { method: differences, config: { targetModules: ["first", "second"] } });
    const values = initialParameters(adapted, 1);
    expect([...values.values()]).toEqual([Float32Array.of(1), Float32Array.of(1)]);
    const got = await runAdapted(adapted, values, adapted.parameters);
    expect(largestDifference(got, await run(model))).toBeLessThan(tolerance);
  });

  test("parameters are counted as weights, not as scales", () => {
    const { byKind } = describeModel(model).parameters;
    expect(byKind.linear).toBe(32 * 48 + 6 * 32 + (first!.hasBias ? 32 + 6 : 0));
  });
});
