import { expect, test } from "vitest";
import { mergeAdapter } from "../adapters/merge.ts";
import { parseAdapterConfig } from "../adapters/select.ts";
import { findSites } from "../adapters/sites.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { lora } from "../methods/lora.ts";
import type { Model } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { lowerModel, prepareModel } from "./lower-model.ts";

/** Linear -> BiasGelu, the bias in the activation, as ONNX Runtime writes it. */
function biasedLayer(): Model {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["batch", 4]);
  const weight = g.initializer("onnx::MatMul_7", tensorFrom("float32", [4, 3], new Array(12).fill(0.5)));
  const bias = g.initializer("mlp.dense.bias", tensorFrom("float32", [3], [1, 2, 3]));
  const [h] = g.op("MatMul", [x, weight], {}, { name: "/mlp/dense/MatMul" });
  const [y] = g.op("BiasGelu", [h!, bias], {}, { domain: "com.microsoft", name: "Gelu_0", outputs: ["y"] });
  g.output(y!, "y");
  return toModel(g.finish(), 17);
}

test("a model without fused operators is the very same object", () => {
  const g = createBuilder(21);
  g.output(g.relu(g.input("x", "float32", [2])), "y");
  const model = toModel(g.finish(), 21);
  expect(lowerModel(model)).toBe(model);
  expect(prepareModel(model)).toBe(model);
});

test("lowering is pure, idempotent and computed once", () => {
  const model = biasedLayer();
  const before = JSON.stringify(model.graph.nodes);
  const lowered = prepareModel(model);
  expect(JSON.stringify(model.graph.nodes)).toBe(before);
  expect(prepareModel(model)).toBe(lowered);
  expect(prepareModel(lowered)).toBe(lowered);
  expect(lowerModel(lowered)).toBe(lowered);
  expect(lowered.graph.nodes.map((n) => n.op)).toEqual(["MatMul", "Add", "Gelu"]);
  expect(lowered.graph.initializers.get("onnx::MatMul_7")).toBe(model.graph.initializers.get("onnx::MatMul_7"));
});

test("sites see the lowered form: the bias in the activation belongs to its layer", () => {
  const [site] = findSites(biasedLayer());
  expect(site).toMatchObject({ name: "mlp.dense", hasBias: true, inFeatures: 4, outFeatures: 3 });
});

test("merging changes the file's weights and leaves its fused nodes", () => {
  const model = biasedLayer();
  const tensors = new Map([
    ["mlp.dense.lora_A.weight", { dims: [1, 4], data: Float32Array.of(1, 0, 0, 0) }],
    ["mlp.dense.lora_B.weight", { dims: [3, 1], data: Float32Array.of(0, 2, 0) }],
  ]);
  const config = parseAdapterConfig(lora, { r: 1, alpha: 1, targetModules: ["dense"] });
  const merged = mergeAdapter(model, { type: "LORA", config, tensors });
  expect(merged.graph.nodes.map((n) => n.op)).toEqual(["MatMul", "BiasGelu"]);
  const weight = merged.graph.initializers.get("onnx::MatMul_7");
  expect([...toFloat32Array(weight!)]).toEqual([0.5, 2.5, 0.5, ...new Array(9).fill(0.5)]);
});

test("with an operator that nobody knows the model stays as it is", () => {
  const model = biasedLayer();
  const unknown = { ...model.graph.nodes[0]!, name: "odd", op: "Odd", inputs: ["x"], outputs: ["z"] };
  const odd = { ...model, graph: { ...model.graph, nodes: [unknown, ...model.graph.nodes] } };
  expect(lowerModel(odd)).toBe(odd);
});
