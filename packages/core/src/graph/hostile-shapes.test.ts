import { expect, test } from "vitest";
import { findSites } from "../adapters/sites.ts";
import { mulDims } from "../onnx/dims.ts";
import type { Dim, Graph, Node } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { errorOf } from "../onnx/testing/errors.ts";
import { graph, model, node, value } from "../onnx/testing/models.ts";
import { importGraph } from "./import-graph.ts";

const load = (parts: Partial<Graph>) => importGraph(graph(parts), 17);
const refused = (parts: Partial<Graph>) => errorOf(() => load(parts));
const int64 = (values: number[]) => tensorFrom("int64", [values.length], values);

test("a shape is not as long as a file says that it is", () => {
  for (const op of ["Reshape", "Expand"]) {
    const inputs = [value("x", ["n"]), value("s", [2 ** 31], "int64")];
    expect(refused({ nodes: [node(op, ["x", "s"], ["y"])], inputs })).toMatchObject({
      code: "SHAPE_INFERENCE",
      message: expect.stringContaining("2147483648 axes"),
    });
  }
  const inputs = [value("s", [2 ** 40], "int64")];
  expect(refused({ nodes: [node("ConstantOfShape", ["s"], ["y"])], inputs }).code).toBe("SHAPE_INFERENCE");
});

test("axes cannot be added without end", () => {
  const initializers = new Map([["axes", int64(Array.from({ length: 40 }, (_, i) => i))]]);
  const nodes = [node("Unsqueeze", ["x", "axes"], ["y"]), node("Unsqueeze", ["y", "axes"], ["z"])];
  expect(refused({ nodes, inputs: [value("x", ["n"])], initializers }).message).toContain("81 axes");
  const perm = { perm: { type: "ints", value: new Array(100_000).fill(0) } } as const;
  expect(refused({ nodes: [node("Transpose", ["x"], ["y"], perm)], inputs: [value("x", ["n"])] }).code).toBe(
    "SHAPE_INFERENCE",
  );
});

test("an operator may have very many inputs", () => {
  const many = new Array<string>(200_000).fill("x");
  const g = load({ nodes: [node("Sum", many, ["y"])], inputs: [value("x", ["n", 2])] });
  expect(g.value("y").shape).toEqual(["n", 2]);
  const mixed = refused({ nodes: [node("Sum", [...many, "z"], ["y"])], inputs: [value("x", [3]), value("z", [2])] });
  expect(mixed.message.length).toBeLessThan(2000);
});

test("expressions of dimensions stay short, and equal ones stay equal", () => {
  const squares: Node[] = [node("Shape", ["x"], ["s0"])];
  for (let i = 0; i < 60; i++) squares.push(node("Mul", [`s${i}`, `s${i}`], [`s${i + 1}`]));
  squares.push(node("Reshape", ["x", "s60"], ["y"]));
  const [dim] = load({ nodes: squares, inputs: [value("x", ["n"])] }).value("y").shape;
  expect(String(dim).length).toBeLessThan(2000);

  const sum = Array.from({ length: 60 }, (_, i) => `n${i}`).join("+");
  let [a, b]: [Dim, Dim] = [sum, sum];
  for (let i = 0; i < 8; i++) [a, b] = [mulDims(a, sum), mulDims(sum, b)];
  expect(a).toBe(b);
  expect(String(a).length).toBeLessThan(2000);
  expect(mulDims(a, 2)).not.toBe(a);
});

test("an operator called like a member of every object is an unknown operator", () => {
  for (const op of ["toString", "constructor", "__proto__", "hasOwnProperty"]) {
    const parts = { nodes: [node(op, ["x"], ["y"])], inputs: [value("x", ["n"])], outputs: [value("y", ["n"])] };
    expect(refused(parts).code).toBe("UNSUPPORTED_OPERATOR");
    expect(findSites(model(parts))).toEqual([]);
  }
});

test("a weight behind thousands of casts is not followed for each of its readers", () => {
  const length = 3000;
  const nodes = Array.from({ length }, (_, i) => node("Identity", [i === 0 ? "w" : `c${i}`], [`c${i + 1}`]));
  for (let i = 0; i < length; i++) nodes.push(node("MatMul", ["x", `c${length}`], [`y${i}`]));
  const initializers = new Map([["w", tensorFrom("float32", [1, 1], [1])]]);
  expect(findSites(model({ nodes, inputs: [value("x", ["n", 1])], initializers }))).toEqual([]);
});
