import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { lowerModel } from "./lower-model.ts";
import { compareModels } from "./testing/check-lowering.ts";

const width = 6;
const data = Array.from({ length: 4 * width }, (_, i) => 3 * Math.sin(1.7 * i));
const feeds = new Map([["x", tensorFrom("float32", [4, width], data)]]);

function modelOf(build: (g: Builder, x: Value) => Value | Value[], opset = 14): Model {
  const g = createBuilder(opset);
  const made = build(g, g.input("x", "float32", ["rows", width]));
  for (const [i, y] of [made].flat().entries()) g.output(y, `y${i}`);
  return toModel(g.finish(), opset);
}

/** Without the Identity that shows the result under its name. */
const opsOf = (model: Model): string[] => model.graph.nodes.map((n) => n.op).filter((op) => op !== "Identity");
const weight = (g: Builder): Value =>
  g.initializer("weight", tensorFrom("float32", [width], [1, 2, 0.5, 1.5, -1, 0.3]));
const bias = (g: Builder): Value => g.initializer("bias", tensorFrom("float32", [width], [0.1, 0, -1, 2, 0, 1]));

/** Nodes of forward and backward with respect to x. */
function trainingNodes(model: Model): number {
  const g = importGraph(model.graph, model.opsets.get("") ?? 14);
  const y = g.value(model.graph.outputs[0]!.name);
  const seed = g.input("dy", "float32", y.shape);
  const [d] = differentiate(g, [{ value: y, gradient: seed }], [g.value("x")]);
  g.output(y, "y");
  g.output(d!, "d");
  return g.finish().nodes.length;
}

async function expectOne(build: (g: Builder, x: Value) => Value, op: string, opset = 14): Promise<Model> {
  const model = modelOf(build, opset);
  const lowered = lowerModel(model);
  expect(opsOf(lowered)).toEqual([op]);
  expect(lowerModel(lowered)).toBe(lowered);
  await compareModels(lowered, feeds, model, feeds, 1e-6);
  return lowered;
}

const squared = (g: Builder, c: Value, how: "pow" | "mul"): Value => (how === "pow" ? g.pow(c, 2) : g.mul(c, c));

describe("LayerNormalization", () => {
  const norm =
    (how: "pow" | "mul", twice: boolean, shift: boolean, epsilon = 1e-5) =>
    (g: Builder, x: Value) => {
      const mean = g.reduceMean(x, [-1]);
      const c = g.sub(x, mean);
      const root = g.sqrt(g.add(g.reduceMean(squared(g, twice ? g.sub(x, mean) : c, how), [-1]), epsilon));
      const scaled = g.mul(g.div(c, root), weight(g));
      return shift ? g.add(bias(g), scaled) : scaled;
    };

  test.each([
    [norm("pow", false, true), 14],
    [norm("mul", false, true), 14],
    [norm("pow", true, true, 1e-12), 14],
    [norm("pow", false, false), 14],
    [norm("pow", false, true), 18],
  ] as const)("form %#", async (build, opset) => {
    const lowered = await expectOne(build, "LayerNormalization", opset);
    expect(lowered.graph.nodes[0]?.inputs[0]).toBe("x");
    // Nodes of forward and backward: 32 in single operators, 16 with the statistics of the operator.
    expect(trainingNodes(lowered)).toBeLessThan(0.6 * trainingNodes(modelOf(build, opset)));
  });

  test("other axes, and values that are read elsewhere, stay", () => {
    const other = modelOf((g, x) => {
      const c = g.sub(x, g.reduceMean(x, [0]));
      return g.mul(g.div(c, g.sqrt(g.add(g.reduceMean(g.pow(c, 2), [0]), 1e-5))), weight(g));
    });
    expect(lowerModel(other)).toBe(other);
    const shown = modelOf((g, x) => {
      const c = g.sub(x, g.reduceMean(x, [-1]));
      return [g.mul(g.div(c, g.sqrt(g.add(g.reduceMean(g.pow(c, 2), [-1]), 1e-5))), weight(g)), c];
    });
    expect(lowerModel(shown)).toBe(shown);
    const cubed = modelOf((g, x) => {
      const c = g.sub(x, g.reduceMean(x, [-1]));
      return g.mul(g.div(c, g.sqrt(g.add(g.reduceMean(g.pow(c, 3), [-1]), 1e-5))), weight(g));
    });
    expect(lowerModel(cubed)).toBe(cubed);
  });
});

describe("SimplifiedLayerNormalization", () => {
  const root = (g: Builder, x: Value): Value => g.sqrt(g.add(g.reduceMean(g.pow(x, 2), [-1]), 1e-6));
  test.each([
    (g: Builder, x: Value) => g.mul(weight(g), g.mul(x, g.div(1, root(g, x)))),
    (g: Builder, x: Value) => g.mul(g.mul(g.reciprocal(root(g, x)), x), weight(g)),
    (g: Builder, x: Value) => g.mul(g.div(x, root(g, x)), weight(g)),
    (g: Builder, x: Value) => g.mul(weight(g), g.op("Cast", [g.mul(x, g.div(1, root(g, x)))], { to: 1 })[0] as Value),
  ])("form %#", async (build) => {
    const lowered = await expectOne(build, "SimplifiedLayerNormalization");
    expect(trainingNodes(lowered)).toBeLessThan(0.8 * trainingNodes(modelOf(build)));
  });

  test("the root of another value stays", () => {
    const model = modelOf((g, x) => g.mul(g.div(x, root(g, g.tanh(x))), weight(g)));
    expect(lowerModel(model)).toBe(model);
  });
});

describe("activations", () => {
  const k = Math.sqrt(2 / Math.PI);
  test.each([
    ["Gelu", (g: Builder, x: Value) => g.mul(g.mul(x, g.add(g.erf(g.div(x, Math.SQRT2)), 1)), 0.5)],
    ["Gelu", (g: Builder, x: Value) => g.mul(x, g.mul(0.5, g.add(1, g.erf(g.mul(x, Math.SQRT1_2)))))],
    ["Gelu", (g: Builder, x: Value) => g.mul(g.mul(x, 0.5), g.add(g.erf(g.div(x, Math.SQRT2)), 1))],
    [
      "FastGelu",
      (g: Builder, x: Value) =>
        g.mul(g.mul(x, 0.5), g.add(g.tanh(g.mul(g.add(x, g.mul(g.pow(x, 3), 0.044715)), k)), 1)),
    ],
    [
      "FastGelu",
      (g: Builder, x: Value) =>
        g.mul(g.mul(x, 0.5), g.add(1, g.tanh(g.mul(g.mul(x, k), g.add(1, g.mul(g.mul(x, 0.044715), x)))))),
    ],
    ["QuickGelu", (g: Builder, x: Value) => g.mul(x, g.sigmoid(g.mul(x, 1.702)))],
    ["QuickGelu", (g: Builder, x: Value) => g.mul(g.sigmoid(x), x)],
  ] as const)("%s, form %#", async (op, build) => {
    const lowered = await expectOne(build, op);
    expect(trainingNodes(lowered)).toBeLessThan(trainingNodes(modelOf(build)));
  });

  test.each([
    (g: Builder, x: Value) => g.mul(g.mul(x, g.add(g.erf(g.div(x, 1.41)), 1)), 0.5),
    (g: Builder, x: Value) => g.mul(g.mul(x, g.add(g.erf(g.div(x, Math.SQRT2)), 1)), 0.25),
    (g: Builder, x: Value) => g.mul(g.mul(x, 0.5), g.add(g.tanh(g.mul(g.add(x, g.mul(g.pow(x, 3), 0.0447)), k)), 1)),
    (g: Builder, x: Value) => g.mul(x, g.sigmoid(g.add(x, 1))),
    (g: Builder, x: Value) => g.mul(x, g.sigmoid(g.neg(x))),
  ])("another formula stays, %#", (build) => {
    const model = modelOf(build);
    expect(lowerModel(model)).toBe(model);
  });

  test("a gate that is read elsewhere stays", () => {
    const model = modelOf((g, x) => {
      const gate = g.sigmoid(x);
      return [g.mul(x, gate), gate];
    });
    expect(lowerModel(model)).toBe(model);
  });
});
