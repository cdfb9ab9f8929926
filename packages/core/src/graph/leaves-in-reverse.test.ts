import { expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "./builder.ts";
import { leavesInReverse } from "./leaves-in-reverse.ts";

test("weight gradients come last, those of upper layers after those of lower ones", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["rows", 2]);
  const weights = [0, 1, 2].map((i) => g.input(`w${i}`, "float32", [2, 2]));
  const y = weights.reduce((h, w) => g.tanh(g.matMul(h, w)), x);
  const loss = g.reduceSum(y, [0, 1], false);
  g.output(loss, "loss");
  differentiate(g, [{ value: loss }], weights).forEach((d, i) => {
    g.output(d, `d${i}`);
  });
  const graph = g.finish();
  const sorted = leavesInReverse(graph);
  expect(new Set(sorted.nodes)).toEqual(new Set(graph.nodes));
  const ends = sorted.nodes.map((n) => n.outputs[0] ?? "").filter((name) => /^(d\d|loss)$/.test(name));
  expect(ends).toEqual(["d0", "d1", "d2", "loss"]);
  expect(sorted.nodes.slice(-8).map((n) => n.op)).toEqual([
    "Gemm",
    "Identity",
    "Gemm",
    "Identity",
    "Gemm",
    "Identity",
    "ReduceSum",
    "Identity",
  ]);
  // Still in topological order: every value is made before it is read.
  const known = new Set([...sorted.inputs.map((v) => v.name), ...sorted.initializers.keys()]);
  for (const node of sorted.nodes) {
    for (const name of node.inputs) expect(known).toContain(name);
    for (const name of node.outputs) known.add(name);
  }
});
