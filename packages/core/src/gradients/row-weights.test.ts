import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";

type Attention = (g: Builder, scores: Value, v: Value, mask: Value) => Value | Value[];

const attentions: Record<string, Attention> = {
  "weights and values": (g, s, v) => g.matMul(g.softmax(s), v),
  "a mask between": (g, s, v, mask) => g.matMul(g.mul(g.softmax(s), mask), v),
  "a node that changes nothing": (g, s, v) => g.matMul(g.op("Identity", [g.softmax(s)])[0] as Value, v),
  "the mask first": (g, s, v, mask) => g.matMul(g.mul(mask, g.softmax(s)), v),
  "a scaled product with transposed values": (g, s, v) =>
    g.fusedMatMul(g.softmax(s), g.transpose(v, [0, 1, 3, 2]), { transB: true, alpha: 0.7 }),
  "heads that share values": (g, s, v, mask) => {
    const stacked = g.reshape(g.mul(g.softmax(s), mask), [2, 1, 6, 4]);
    const own = g.slice(v, [0], [1], [1]);
    return g.reshape(g.matMul(stacked, own), [2, 2, 3, 5]);
  },
};

const others: Record<string, Attention> = {
  "weights that are a result too": (g, s, v) => {
    const weights = g.softmax(s);
    return [g.matMul(weights, v), weights];
  },
  "weights with two products": (g, s, v) => {
    const weights = g.softmax(s);
    return g.add(g.matMul(weights, v), g.matMul(g.mul(weights, weights), v));
  },
  "weights on the right": (g, s, v) => g.matMul(g.transpose(v, [0, 1, 3, 2]), g.transpose(g.softmax(s), [0, 1, 3, 2])),
  "transposed weights": (g, s, v) => g.fusedMatMul(g.softmax(s), g.slice(v, [0], [3], [2]), { transA: true }),
  "weights broadcast over values": (g, s, v) => g.matMul(g.softmax(g.slice(s, [0], [1], [1])), v),
  "another axis": (g, s, v) => g.matMul(g.softmax(s, 2), v),
};

const scores = { dims: [2, 2, 3, 4] };
const values = { dims: [2, 2, 4, 5] };
const mask = { dims: [2, 2, 3, 4], data: Array.from({ length: 48 }, (_, i) => (i % 5 === 0 ? 0 : 1.25)), frozen: true };
const inputs = [scores, values, mask];

/** Sums of the gradient that are made of products as large as the weights. */
function sumsOfWeights(attention: Attention): number {
  const g = createBuilder();
  const [s, v, m] = inputs.map(({ dims }, i) => g.input(`x${i}`, "float32", dims)) as [Value, Value, Value];
  const out = [attention(g, s, v, m)]
    .flat()
    .map((value) => ({ value, gradient: g.input(`d${value.name}`, "float32", value.shape) }));
  const before = g.nodes.length;
  differentiate(g, out, [s]);
  return g.nodes.slice(before).filter(({ op, inputs: [x = ""] }) => op === "ReduceSum" && g.value(x).shape.at(-1) === 4)
    .length;
}

describe.each(Object.entries(attentions))("%s", (_, attention) => {
  test("gradients by finite differences", () =>
    checkGradient((g, [s, v, m]) => attention(g, s!, v!, m!), inputs, { symbolic: ["shared"] }));

  test("no product of the size of the weights is summed", () => {
    expect(sumsOfWeights(attention)).toBe(0);
  });
});

describe.each(Object.entries(others))("%s", (_, attention) => {
  test("gradients by finite differences", () =>
    checkGradient((g, [s, v, m]) => attention(g, s!, v!, m!), inputs, { symbolic: ["shared"] }));

  test("the general sum", () => {
    expect(sumsOfWeights(attention)).toBeGreaterThan(0);
  });
});
