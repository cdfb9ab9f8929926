import { describe, expect, test } from "vitest";
import { createBuilder } from "../../graph/builder.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { frozenNodes } from "./frozen-nodes.ts";

/** x·W with dropout, times a trained vector with dropout. */
function graphWithDropout() {
  const g = createBuilder();
  g.setTraining(true);
  const x = g.input("x", "float32", ["batch", 4]);
  const scale = g.input("scale", "float32", [4]);
  const weight = g.initializer("weight", tensorFrom("float32", [4, 4], new Array(16).fill(1)));
  const frozen = g.relu(g.dropout(g.matMul(x, weight), 0.5));
  g.output(g.dropout(g.mul(frozen, scale), 0.25), "y");
  return g.finish();
}

describe("frozen nodes", () => {
  test("end at dropout, unless it is left out; masks of trained values stay", () => {
    const graph = graphWithDropout();
    const changing = new Set(["scale"]);
    const ops = (nodes: readonly { op: string }[]) => nodes.map(({ op }) => op);
    const strict = frozenNodes(graph, changing, false);
    expect(ops(strict.nodes)).toContain("MatMul");
    expect(ops(strict.nodes)).not.toContain("Relu");
    expect([...strict.undropped]).toEqual([]);
    expect(strict.maskNodes).toEqual([]);
    const loose = frozenNodes(graph, changing, true);
    expect(ops(loose.nodes)).toEqual(expect.arrayContaining(["MatMul", "Mul", "Relu"]));
    const product = loose.nodes.find(({ op }) => op === "MatMul")!;
    expect([...loose.undropped.values()]).toEqual(product.outputs);
    expect(ops(loose.nodes).filter((op) => op === "Mul")).toHaveLength(1);
    expect(ops(loose.maskNodes)).toEqual(["Reshape"]);
  });

  test("do not hold what depends on the other samples of a batch", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["batch", 4]);
    const [quantized] = g.op("DynamicQuantizeLinear", [g.relu(x)], {}, { count: 3 });
    g.output(g.cast(quantized!, "float32"), "y");
    expect(frozenNodes(g.finish(), new Set(), false).nodes.map(({ op }) => op)).toEqual(["Relu"]);
  });
});
