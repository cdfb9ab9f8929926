import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { decodeModel } from "../onnx/decode.ts";
import type { Graph, Node, Value, ValueType } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { undeclared } from "../onnx/unknown-shape.ts";
import { encodeModel } from "../onnx/write.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { graphAttribute } from "./attributes.ts";
import { importGraph } from "./import-graph.ts";
import { toModel } from "./to-model.ts";

const node = (op: string, inputs: string[], outputs: string[], attributes: Node["attributes"] = {}): Node => ({
  name: `${op}/${outputs[0]}`,
  op,
  domain: "",
  inputs,
  outputs,
  attributes,
  metadata: {},
});
const value = (name: string, type: ValueType["type"], shape: ValueType["shape"]): Value => ({ name, type, shape });

const graph = (parts: Partial<Graph>): Graph => ({
  name: "g",
  nodes: [],
  inputs: [],
  outputs: [],
  initializers: new Map(),
  values: new Map(),
  ...parts,
});

/** As a file has it: the branches' outputs say neither type nor rank. */
const branch = (...nodes: Node[]): Node["attributes"][string] =>
  graphAttribute(graph({ nodes, outputs: [value(nodes.at(-1)?.outputs[0] ?? "", "float32", undeclared)] }));

const x = value("x", "float32", ["batch", 2]);
const feeds = { x: { type: "float32", dims: [1, 2], data: Float32Array.from([3, -1]) } } as const;

/** y = condition ? 2 x' : x' · x', with x' = x + 1 in the middle, and a value "inner" in both branches. */
function withIf(condition: { constant: number } | "fed"): Graph {
  const fed = condition === "fed" ? [value("c", "bool", [])] : [];
  const constants = new Map([
    ["one", tensorFrom("float32", [], [1])],
    ...(condition === "fed" ? [] : ([["c", tensorFrom("bool", [], [condition.constant])]] as const)),
  ]);
  return graph({
    inputs: [x, ...fed],
    initializers: constants,
    nodes: [
      node("Add", ["x", "one"], ["middle"]),
      node("If", ["c"], ["y"], {
        then_branch: branch(node("Identity", ["middle"], ["inner"]), node("Add", ["inner", "middle"], ["out"])),
        else_branch: branch(node("Mul", ["middle", "middle"], ["inner"]), node("Neg", ["inner"], ["out"])),
      }),
    ],
    outputs: [value("y", "float32", ["batch", 2])],
  });
}

const numbers = (tensor: { data: unknown } | undefined): number[] => Array.from((tensor?.data ?? []) as Float32Array);

describe("sub-graphs", () => {
  test("an If with a constant condition becomes the branch it takes", async () => {
    for (const [constant, expected] of [
      [1, [8, 0]],
      [0, [-16, -0]],
    ] as const) {
      const g = importGraph(withIf({ constant }), 17);
      g.output(g.value("y"), "y");
      expect(g.finish().nodes.map((n) => n.op)).not.toContain("If");
      expect(numbers((await runBuilder(g, feeds)).y)).toEqual(expected);
    }
  });

  test.each([1, 0])("an If survives reading, import, differentiation and writing; condition %d", async (c) => {
    const file = decodeModel(encodeModel(toModel(withIf("fed"), 17)));
    const g = importGraph(file.graph, 17);
    expect(g.value("y")).toMatchObject({ type: "float32", shape: ["batch", 2] });
    const [dX] = differentiate(g, [{ value: g.reduceSum(g.value("y"), [0, 1], false) }], [g.value("x")]);
    g.output(g.value("y"), "y");
    g.output(dX!, "dX");
    const out = await runBuilder(g, { ...feeds, c: { type: "bool", dims: [], data: Uint8Array.of(c) } });
    expect(numbers(out.y)).toEqual(c ? [8, 0] : [-16, -0]);
    expect(numbers(out.dX)).toEqual(c ? [2, 2] : [-8, -0]);
  });

  test("pruning keeps what only a branch reads", () => {
    const g = importGraph(withIf("fed"), 17);
    g.output(g.value("y"), "y");
    const { nodes, initializers } = g.finish();
    expect(nodes.map((n) => n.op)).toEqual(["Add", "If"]);
    expect([...initializers.keys()]).toEqual(["one"]);
  });

  test("the body of a Loop gets types, and unknown sizes where an iteration changes them", async () => {
    const body = graph({
      inputs: [value("i", "int64", []), value("go", "bool", []), value("s", "float32", undeclared)],
      nodes: [
        node("Identity", ["go"], ["go_on"]),
        node("Concat", ["s", "x"], ["longer"], { axis: { type: "int", value: 0 } }),
        node("ReduceSum", ["longer"], ["total"], { keepdims: { type: "int", value: 0 } }),
      ],
      outputs: [
        value("go_on", "bool", []),
        value("longer", "float32", undeclared),
        value("total", "float32", undeclared),
      ],
    });
    const g = importGraph(
      graph({
        inputs: [x],
        initializers: new Map([["trips", tensorFrom("int64", [], [2])]]),
        nodes: [node("Loop", ["trips", "", "x"], ["last", "totals"], { body: graphAttribute(body) })],
      }),
      17,
    );
    const { shape } = g.value("last");
    expect(shape[0]).toMatch(/^\?/);
    expect(shape[1]).toBe(2);
    expect(g.value("totals").shape).toEqual([2]);
    g.output(g.value("last"), "last");
    g.output(g.value("totals"), "totals");
    const out = await runBuilder(g, feeds);
    expect(out.last?.dims).toEqual([3, 2]);
    expect(numbers(out.totals)).toEqual([4, 6]);
  });

  test("equal names in a branch and around it stay apart when the branch is inlined", async () => {
    const g = importGraph(
      graph({
        inputs: [x],
        initializers: new Map([["c", tensorFrom("bool", [], [1])]]),
        nodes: [
          node("If", ["c"], ["a"], {
            then_branch: branch(node("Neg", ["x"], ["t"])),
            else_branch: branch(node("Exp", ["x"], ["t"])),
          }),
          node("If", ["c"], ["b"], {
            then_branch: branch(node("Abs", ["a"], ["t"])),
            else_branch: branch(node("Exp", ["x"], ["t"])),
          }),
          node("Add", ["a", "b"], ["y"]),
        ],
      }),
      17,
    );
    g.output(g.value("y"), "y");
    expect(numbers((await runBuilder(g, feeds)).y)).toEqual([0, 2]);
  });
});
