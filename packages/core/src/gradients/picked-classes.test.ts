import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { checkGradient } from "../testing/check-gradient.ts";

type Pick = (g: Builder, scores: Value) => Value | Value[];
const places = (g: Builder, dims: number[], values: number[]): Value =>
  g.initializer("places", tensorFrom("int64", dims, BigInt64Array.from(values.map(BigInt))));

const picked: Record<string, Pick> = {
  "one class of every row": (g, x) => g.gatherElements(g.logSoftmax(x), places(g, [2, 3, 1], [0, 4, 2, -1, 1, 1]), -1),
  "a class twice": (g, x) =>
    g.gatherElements(g.logSoftmax(x), places(g, [2, 3, 2], [0, 0, 4, 1, 2, 3, 1, 1, 0, 4, 3, 2]), 2),
  "another axis": (g, x) =>
    g.gatherElements(g.logSoftmax(x, 1), places(g, [2, 1, 5], [0, 1, 2, 0, 1, 2, 2, 1, 0, 0]), 1),
};
const others: Record<string, Pick> = {
  "log-probabilities that are a result too": (g, x) => {
    const logP = g.logSoftmax(x);
    return [g.gatherElements(logP, places(g, [2, 3, 1], [0, 4, 2, 3, 1, 1]), -1), logP];
  },
  "picked and summed": (g, x) => {
    const logP = g.logSoftmax(x);
    const own = g.gatherElements(logP, places(g, [2, 3, 1], [0, 4, 2, 3, 1, 1]), -1);
    return g.add(own, g.reduceSum(logP, [2]));
  },
  "along another axis than normalised": (g, x) =>
    g.gatherElements(g.logSoftmax(x), places(g, [2, 1, 5], [0, 1, 2, 0, 1, 2, 2, 1, 0, 0]), 1),
  "some rows only": (g, x) => g.gatherElements(g.logSoftmax(x), places(g, [2, 2, 1], [0, 4, 2, 3]), -1),
};
const scores = { dims: [2, 3, 5] };

/** Nodes of the gradient that lead to it and make or sum something as large as the scores from zeros. */
function zerosMade(pick: Pick, opset?: number): number {
  const g = createBuilder(opset);
  const x = g.input("x", "float32", scores.dims);
  const out = [pick(g, x)]
    .flat()
    .map((value) => ({ value, gradient: g.input(`d${value.name}`, "float32", value.shape) }));
  const [dX] = differentiate(g, out, [x]);
  g.output(dX as Value, "dX");
  return g.finish().nodes.filter(({ op }) => op === "ConstantOfShape" || op === "Expand").length;
}

describe.each(Object.entries(picked))("%s", (_, pick) => {
  test("gradients by finite differences", () => checkGradient((g, [x]) => pick(g, x!), [scores]));
  test("no gradient of all classes is filled", () => expect(zerosMade(pick)).toBe(0));
});

describe.each(Object.entries(others))("%s", (_, pick) => {
  test("gradients by finite differences", () => checkGradient((g, [x]) => pick(g, x!), [scores]));
});

test("before opset 16, where nothing can be added at indices, the general rule", () =>
  checkGradient((g, [x]) => picked["one class of every row"]!(g, x!), [scores], { opset: 13 }));
