import { describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { full } from "../methods/full.ts";
import { lora } from "../methods/lora.ts";
import type { Model } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { randomWeight } from "../testing/random-weight.ts";
import { adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter, unmergeAdapter } from "./merge.ts";
import { frozenSite } from "./operands.ts";
import type { AdapterConfigInput } from "./select.ts";
import { findSites } from "./sites.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";
import { difference, runPacked } from "./testing/run-packed.ts";

const hidden = 4;

interface Names {
  /** Of the value that attention makes. */
  readonly context: string;
  /** Of the node that leads out. */
  readonly out: string;
  /** Of the packed weight and bias. */
  readonly weight?: string;
}

/** Attention with a packed projection, its weight read by a second product too where `shared`, and the way out. */
function packedModel({ context, out, weight = "Attention_0_qkv_weight" }: Names, shared = false): Model {
  const random = testRandom(4);
  const g = createBuilder(17);
  const constant = (name: string, dims: readonly number[]) => randomWeight(g, name, dims, { random });
  const x = g.input("x", "float32", ["batch", "tokens", hidden]);
  const packed = constant(weight, [hidden, 3 * hidden]);
  const bias = constant(weight.replace("weight", "bias"), [3 * hidden]);
  const [y] = g.op("MatMul", [x, packed], {}, { name: "Attention_0/MatMul" });
  const [q, k, v] = g.split(g.add(y!, bias), [hidden, hidden, hidden], 2);
  const weights = g.softmax(g.matMul(q!, g.transpose(k!, [0, 2, 1])));
  const [attended] = g.op("MatMul", [weights, v!], {}, { outputs: [context] });
  const [result] = g.op("MatMul", [attended!, constant("onnx::MatMul_9", [hidden, hidden])], {}, { name: out });
  g.output(shared ? g.add(result!, g.reduceSum(g.matMul(x, packed), [2])) : result!, "y");
  return toModel(g.finish(), 17);
}

const bert: Names = {
  context: "/layer.0/attention/self/Reshape_3_output_0",
  out: "/layer.0/attention/output/dense/MatMul",
};
const namesOf = (model: Model): string[] => findSites(model).map((site) => site.name);

test.each<[Names, string[]]>([
  [bert, ["layer.0.attention.self.query", "layer.0.attention.self.key", "layer.0.attention.self.value"]],
  [
    { ...bert, context: "/layer.0/attention/attention/Reshape_3_output_0" },
    ["layer.0.attention.attention.query", "layer.0.attention.attention.key", "layer.0.attention.attention.value"],
  ],
  [
    { ...bert, context: "val_7" },
    ["layer.0.attention.self.query", "layer.0.attention.self.key", "layer.0.attention.self.value"],
  ],
  [
    { context: "val_7", out: "/layers.0/self_attn/out_proj/MatMul" },
    ["layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj", "layers.0.self_attn.v_proj"],
  ],
  [
    { context: "val_7", out: "/transformer/layer.1/attention/out_lin/MatMul" },
    [
      "transformer.layer.1.attention.q_lin",
      "transformer.layer.1.attention.k_lin",
      "transformer.layer.1.attention.v_lin",
    ],
  ],
  [
    { context: "val_7", out: "/block.0/layer.0/SelfAttention/o/MatMul" },
    ["block.0.layer.0.SelfAttention.q", "block.0.layer.0.SelfAttention.k", "block.0.layer.0.SelfAttention.v"],
  ],
  [
    {
      context: "val_7",
      out: "/model/layers.0/attn/o_proj/MatMul",
      weight: "model.layers.0.attn.qkv_proj.MatMul.weight",
    },
    ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"],
  ],
  [{ context: "val_7", out: "MatMul_12" }, ["query", "key", "value"].map((name) => `Attention_0_qkv_weight.${name}`)],
  [{ context: "val_7", out: "/h.0/attn/c_proj/MatMul" }, ["h.0.attn.c_attn"]],
  [{ context: "val_7", out: "/h.0/attn/c_proj/MatMul", weight: "h.0.attn.c_attn.weight" }, ["h.0.attn.c_attn"]],
])("%j is offered as %j", (names, expected) => {
  expect(namesOf(packedModel(names)).slice(0, expected.length)).toEqual(expected);
});

test("the parts are the packed weight's columns and the packed bias's numbers", () => {
  const model = packedModel(bert);
  const packed = toFloat32Array(model.graph.initializers.get("Attention_0_qkv_weight")!);
  const [, key] = findSites(model);
  expect(key).toMatchObject({ inFeatures: hidden, outFeatures: hidden, weightLayout: "in_out", hasBias: true });
  const { weight, bias } = {
    weight: frozenSite(model.graph, key!).weight(),
    bias: frozenSite(model.graph, key!).bias(),
  };
  for (let row = 0; row < hidden; row++)
    for (let column = 0; column < hidden; column++)
      expect(weight[column * hidden + row]).toBe(packed[row * 3 * hidden + hidden + column]);
  expect(bias).toEqual(toFloat32Array(model.graph.initializers.get("Attention_0_qkv_bias")!).slice(hidden, 2 * hidden));
});

describe.each([false, true])("shared with another reader: %s", (shared) => {
  test.each([
    [lora, { r: 2, alpha: 3, targetModules: ["query", "value"] }],
    [lora, { r: 2, alpha: 3, targetModules: ["query", "key", "value"] }],
    [full, { targetModules: ["query", "key", "value"] }],
    [full, { targetModules: ["key"] }],
  ] as const)("%# injected, merged, fed and unmerged agree", async (method, config) => {
    const model = packedModel(bert, shared);
    const options = { method: method as typeof lora, config: config as unknown as AdapterConfigInput<{ r: number }> };
    const adapted = injectAdapter(model, options as never);
    const random = testRandom(8);
    const values = initialParameters(adapted, 1);
    for (const [name, value] of values)
      values.set(
        name,
        value.map((v) => v + random() - 0.5),
      );
    const adapter = adapterOf(adapted, values);
    const swappable = makeSwappable(model, options as never);
    const [before, fed] = [await runPacked(model), await runPacked(swappable.model, adapterFeeds(swappable, adapter))];
    const merged = mergeAdapter(model, adapter);
    expect(difference(await runPacked(merged), fed)).toBeLessThan(1e-5);
    expect(difference(fed, before)).toBeGreaterThan(1e-3);
    expect(difference(await runPacked(swappable.model, adapterFeeds(swappable, null)), before)).toBeLessThan(1e-6);
    expect(difference(await runPacked(unmergeAdapter(merged, adapter, model)), before)).toBeLessThan(1e-5);
    expect(merged.graph.nodes.filter((n) => n.op === "MatMul")).toHaveLength(
      model.graph.nodes.filter((n) => n.op === "MatMul").length,
    );
  });
});
