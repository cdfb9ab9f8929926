import { describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { differentiate } from "./differentiate.ts";

const f32 = (dims: readonly number[], data: readonly number[]) => ({
  type: "float32" as const,
  dims,
  data: Float32Array.from(data),
});

describe("differentiate", () => {
  test("sums the gradients of a value that is used several times", async () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [2]);
    const y = g.add(g.mul(x, x), g.mul(x, 3)); // x² + 3x
    const [dX] = differentiate(g, [{ value: g.reduceSum(y, [0], false) }], [x]);
    g.output(dX!, "dX");
    expect([...(await runBuilder(g, { x: f32([2], [1, -2]) })).dX!.data]).toEqual([5, -1]);
  });

  test("gives gradients of values in the middle, and of inputs behind them", async () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [2]);
    const middle = g.mul(x, 2);
    const loss = g.reduceSum(g.mul(middle, middle), [0], false);
    const [dMiddle, dX] = differentiate(g, [{ value: loss }], [middle, x]);
    g.output(dMiddle!, "dMiddle");
    g.output(dX!, "dX");
    const out = await runBuilder(g, { x: f32([2], [1, 3]) });
    expect([...out.dMiddle!.data]).toEqual([4, 12]);
    expect([...out.dX!.data]).toEqual([8, 24]);
  });

  test("takes a supplied output gradient, for several targets at once", async () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [2]);
    const [a, b] = [g.mul(x, x), g.mul(x, 5)];
    const [dA, dB] = [g.input("dA", "float32", [2]), g.input("dB", "float32", [2])];
    const [dX] = differentiate(
      g,
      [
        { value: a, gradient: dA },
        { value: b, gradient: dB },
      ],
      [x],
    );
    g.output(dX!, "dX");
    const out = await runBuilder(g, { x: f32([2], [1, 2]), dA: f32([2], [1, 10]), dB: f32([2], [2, 0]) });
    expect([...out.dX!.data]).toEqual([12, 40]);
  });

  test("several gradient graphs over one base share its forward", async () => {
    const g = createBuilder();
    const [x, w] = [g.input("x", "float32", [1, 2]), g.input("w", "float32", [2, 1])];
    const y = g.matMul(x, w);
    const square = g.reduceSum(g.mul(y, y), [0, 1], false);
    const [first] = differentiate(g, [{ value: square }], [w]);
    const [second] = differentiate(g, [{ value: g.reduceSum(y, [0, 1], false) }], [x]);
    g.output(first!, "dW");
    g.output(second!, "dX");
    expect(
      g.finish().nodes.filter((n) => n.op === "MatMul" && n.inputs.includes("w") && n.inputs.includes("x")),
    ).toHaveLength(1);
    const out = await runBuilder(g, { x: f32([1, 2], [1, 2]), w: f32([2, 1], [3, 4]) });
    expect([...out.dW!.data]).toEqual([22, 44]);
    expect([...out.dX!.data]).toEqual([3, 4]);
  });

  test("stopGradient keeps the value and cuts the gradient", async () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [2]);
    const y = g.mul(x, g.stopGradient(g.mul(x, x))); // x · sg(x²)
    const [dX] = differentiate(g, [{ value: g.reduceSum(y, [0], false) }], [x]);
    g.output(y, "y");
    g.output(dX!, "dX");
    const out = await runBuilder(g, { x: f32([2], [2, 3]) });
    expect([...out.y!.data]).toEqual([8, 27]);
    expect([...out.dX!.data]).toEqual([4, 9]);
    expect(g.finish().nodes.some((n) => n.op === "StopGradient")).toBe(false);
  });

  test("emits nothing for frozen weights, nor below the earliest wanted value", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["rows", 2]);
    const frozen = g.initializer("frozen", tensorFrom("float32", [2, 2], [1, 2, 3, 4]));
    const below = g.tanh(g.matMul(x, frozen));
    const A = g.input("A", "float32", [2, 2]);
    const loss = g.reduceSum(g.matMul(g.matMul(below, A), frozen), [0, 1], false);
    const before = g.nodes.length;
    differentiate(g, [{ value: loss }], [A]);
    const added = g.nodes.slice(before);
    // dA = belowᵀ · (dY · frozenᵀ): the derivative of Tanh and a product for dFrozen would show here.
    expect(added.filter((n) => n.op === "Gemm" || n.op.endsWith("MatMul"))).toHaveLength(2);
    expect(added.some((n) => n.op !== "Shape" && n.inputs.includes("x"))).toBe(false);
  });

  test("undoes broadcasting whose axes are known at run time only", async () => {
    const g = createBuilder();
    const [a, b] = [g.input("a", "float32", ["m", "n"]), g.input("b", "float32", ["p", "q"])];
    const [dB] = differentiate(g, [{ value: g.reduceSum(g.mul(a, b), [0, 1], false) }], [b]);
    g.output(dB!, "dB");
    const feeds = { a: f32([2, 2], [1, 2, 3, 4]), b: f32([1, 2], [1, 1]) };
    const out = await runBuilder(g, feeds);
    expect(out.dB).toMatchObject({ dims: [1, 2] });
    expect([...out.dB!.data]).toEqual([4, 6]);
  });

  test("an unreached value is an error, or zeros on request", async () => {
    const g = createBuilder();
    const [x, lonely] = [g.input("x", "float32", [2]), g.input("lonely", "float32", ["k"])];
    const loss = g.reduceSum(x, [0], false);
    expect(() => differentiate(g, [{ value: loss }], [lonely])).toThrow(
      expect.objectContaining({ code: "GRADIENT_UNREACHED" }),
    );
    const [dLonely] = differentiate(g, [{ value: loss }], [lonely], { unreached: "zeros" });
    g.output(dLonely!, "dLonely");
    const out = await runBuilder(g, { lonely: f32([3], [1, 1, 1]) });
    expect([...out.dLonely!.data]).toEqual([0, 0, 0]);
  });

  test("a target that is no scalar needs a gradient; integers have none", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [2]);
    const ids = g.input("ids", "int64", [2]);
    expect(() => differentiate(g, [{ value: g.mul(x, x) }], [x])).toThrow(
      expect.objectContaining({ code: "GRADIENT_SHAPE" }),
    );
    expect(() => differentiate(g, [{ value: g.reduceSum(x, [0], false) }], [ids])).toThrow(
      expect.objectContaining({ code: "NOT_DIFFERENTIABLE" }),
    );
  });
});

describe("after", () => {
  test("keeps the value and depends on the gradient", async () => {
    const g = createBuilder();
    const [x, dy] = [g.input("x", "float32", [2]), g.input("dy", "float32", [2, 2])];
    g.output(g.after(x, dy), "y");
    const out = await runBuilder(g, { x: f32([2], [0.1, -3]), dy: f32([2, 2], [5, 6, 7, 8]) });
    expect(out.y!.data).toEqual(Float32Array.from([0.1, -3]));
    expect(g.finish().nodes.some((n) => n.inputs.includes("dy"))).toBe(true);
  });
});
