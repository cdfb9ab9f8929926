import { expect, test } from "vitest";
import { checkModel } from "../check/check-model.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { full } from "../methods/full.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { randomWeight } from "../testing/random-weight.ts";
import { adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { frozenSite } from "./operands.ts";
import { findSites } from "./sites.ts";

const width = 6;
const node = (g: Builder, op: string, inputs: Value[], path: string, attributes = {}): Value =>
  g.op(op, inputs, attributes, { name: `/${path}/${op}` })[0] as Value;

/** Two norms of a fresh model, whose equal weights and biases the exporter merged, around a linear layer. */
function sharedNorms(): Model {
  const g = createBuilder(17);
  const [scale, shift] = [
    randomWeight(g, "layers.0.norm.weight", [width], { around: 1 }),
    randomWeight(g, "layers.0.norm.bias", [width]),
  ];
  const first = node(g, "LayerNormalization", [g.input("x", "float32", ["n", width]), scale, shift], "layers.0/norm");
  const inner = node(g, "MatMul", [g.tanh(first), randomWeight(g, "onnx::MatMul_1", [width, width])], "layers.0/dense");
  g.output(node(g, "LayerNormalization", [inner, scale, shift], "layers.1/norm"), "y");
  return toModel(g.finish(), 17);
}

test("equal weights that an exporter merged are separate leaves: trained apart, merged apart", async () => {
  const model = sharedNorms();
  const norms = findSites(model).filter((site) => site.kind === "norm");
  expect(norms.map((site) => site.name)).toEqual(["layers.0.norm", "layers.1.norm"]);
  const adapted = injectAdapter(model, { method: full, config: { targetModules: ["norm"] } });
  expect(adapted.parameters.map((p) => p.name).sort()).toEqual(
    ["layers.0.norm", "layers.1.norm"].flatMap((name) => [`${name}.bias`, `${name}.weight`]),
  );
  const values = initialParameters(adapted, 0);
  values.set("layers.1.norm.weight", new Float32Array(width).fill(3));
  const merged = mergeAdapter(model, adapterOf(adapted, values));
  const weights = findSites(merged).flatMap((site) =>
    site.kind === "norm" ? [frozenSite(merged.graph, site).weight()] : [],
  );
  expect(weights).toEqual([
    toFloat32Array(model.graph.initializers.get("layers.0.norm.weight")!),
    new Float32Array(width).fill(3),
  ]);
  // The gradient of each is its own: checked against differences of one at a time, in a common direction.
  const { verdict, kinds } = await checkModel(model, onnxruntimeNode, {
    threads: 1,
    batch: 2,
    tokens: 8,
    kinds: ["norm"],
  });
  expect([verdict, kinds[0]?.sites]).toEqual(["ready", 2]);
});

/** One linear layer applied three times, as TorchScript numbers its calls; `copies` stores its weight once per call. */
function repeated(copies: boolean): Model {
  const g = createBuilder(17);
  const bias = randomWeight(g, "shared.bias", [width]);
  const call = (x: Value, i: number): Value => {
    const name = copies ? `onnx::MatMul_${70 + i}` : "onnx::MatMul_70";
    const matrix = g.has(name) ? g.value(name) : randomWeight(g, name, [width, width]);
    const path = i === 0 ? "shared" : `shared_${i}`;
    return g.tanh(node(g, "Add", [node(g, "MatMul", [x, matrix], path), bias], path));
  };
  g.output([0, 1, 2].reduce(call, g.input("x", "float32", ["n", width])), "y");
  return toModel(g.finish(), 17);
}

test.each([false, true])(
  "a module that is called several times is one leaf with summed gradients (copies %s)",
  async (copies) => {
    const [site, ...others] = findSites(repeated(copies));
    expect(others).toEqual([]);
    expect(site).toMatchObject({ name: "shared", kind: "linear" });
    expect(site?.uses).toHaveLength(3);
    const { verdict, kinds } = await checkModel(repeated(copies), onnxruntimeNode, { threads: 1, batch: 2, tokens: 8 });
    expect(verdict).toBe("ready");
    expect(kinds[0]?.gradients?.parameters).toBe(2 * (width + width));
  },
);

test("a module that ends in a number and has a weight of its own stays a module", () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["n", width]);
  const first = node(g, "MatMul", [x, randomWeight(g, "onnx::MatMul_1", [width, width])], "proj");
  g.output(node(g, "MatMul", [first, randomWeight(g, "onnx::MatMul_23", [width, width])], "proj_1"), "y");
  expect(findSites(toModel(g.finish(), 17)).map((site) => site.name)).toEqual(["proj", "proj_1"]);
});

test("children of a Sequential, and modules inside one that is never called, have their whole path", () => {
  const g = createBuilder(17);
  let x = g.input("x", "float32", ["n", width]);
  for (const name of ["fc1", "fc2"]) {
    const product = node(
      g,
      "MatMul",
      [x, randomWeight(g, `onnx::MatMul_${name}`, [width, width])],
      `decoder/layers.0/${name}`,
    );
    x = node(
      g,
      "Add",
      [product, randomWeight(g, `model.decoder.layers.0.${name}.bias`, [width])],
      `decoder/layers.0/${name}`,
    );
  }
  g.output(node(g, "MatMul", [x, randomWeight(g, "onnx::MatMul_9", [width, 3])], "head/head.1"), "y");
  expect(findSites(toModel(g.finish(), 17)).map((site) => site.name)).toEqual([
    "model.decoder.layers.0.fc1",
    "model.decoder.layers.0.fc2",
    "head.1",
  ]);
});
