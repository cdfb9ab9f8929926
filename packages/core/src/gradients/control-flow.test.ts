import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { graphAttribute } from "../graph/attributes.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { buildSubgraph } from "../graph/subgraph.ts";
import type { Value, ValueType } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { checkShapes } from "../testing/check-shapes.ts";

const scalar = (type: ValueType["type"]): ValueType => ({ type, shape: [] });

/** y = condition ? tanh(x) · w : x · w + x, with x and w captured. */
function branching(g: Builder, [condition, x, w]: Value[]): Value {
  const yes = buildSubgraph(g, "then", [], (b) => [b.mul(b.tanh(x!), w!)]);
  const no = buildSubgraph(g, "else", [], (b) => [b.add(b.mul(x!, w!), x!)]);
  const branches = { then_branch: graphAttribute(yes), else_branch: graphAttribute(no) };
  return g.op("If", [g.op("Reshape", [condition!, g.ints([])])[0]!], branches)[0]!;
}

describe("If", () => {
  test.each([1, -1])("both branches, condition %d", async (condition) => {
    const flag = { dims: [1], type: "bool", data: [condition] } as const;
    await checkGradient(branching, [flag, { dims: [3, 4] }, { dims: [4] }]);
    await checkGradient(branching, [flag, { dims: [2, 3, 4] }, { dims: [3, 1], frozen: true }]);
    await checkGradient(branching, [flag, { dims: [5] }, { dims: [5] }], { opset: 13 });
  });

  test("a value that one branch alone reads has zeros from the other", async () => {
    const f = (g: Builder, [condition, x, w]: Value[]): Value => {
      const yes = buildSubgraph(g, "then", [], (b) => [b.exp(x!)]);
      const no = buildSubgraph(g, "else", [], () => [w!]);
      const test = g.op("Reshape", [condition!, g.ints([])])[0]!;
      return g.op("If", [test], { then_branch: graphAttribute(yes), else_branch: graphAttribute(no) })[0]!;
    };
    for (const data of [[1], [0]])
      await checkGradient(f, [{ dims: [1], type: "bool", data }, { dims: [2, 3] }, { dims: [2, 3] }]);
  });

  test("an If inside an If", async () => {
    const f = (g: Builder, [condition, x]: Value[]): Value => {
      const yes = buildSubgraph(g, "then", [], (b) => [branching(b, [condition!, b.mul(x!, x!), x!])]);
      const no = buildSubgraph(g, "else", [], (b) => [b.neg(x!)]);
      const test = g.op("Reshape", [condition!, g.ints([])])[0]!;
      return g.op("If", [test], { then_branch: graphAttribute(yes), else_branch: graphAttribute(no) })[0]!;
    };
    await checkGradient(f, [{ dims: [1], type: "bool", data: [1] }, { dims: [3] }]);
  });
});

const axes = { scan_input_axes: [1, 0], scan_output_axes: [1] };
const backwards = { scan_input_directions: [1, 0], scan_output_directions: [1] };

/** s' = tanh(s + x_t · w), y_t = s' · z_t. */
const recurrence =
  (attributes: Record<string, readonly number[]>) =>
  (g: Builder, [s, x, z, w]: Value[]): Value[] => {
    const part = (v: Value, axis: number) => ({ type: v.type, shape: v.shape.filter((_, i) => i !== axis) });
    const [xAxis, zAxis] = attributes["scan_input_axes"] ?? [0, 0];
    const body = buildSubgraph(g, "step", [s!, part(x!, xAxis!), part(z!, zAxis!)], (b, [before, xt, zt]) => {
      const next = b.tanh(b.add(before!, b.mul(xt!, w!)));
      return [next, b.mul(next, zt!)];
    });
    return g.op("Scan", [s!, x!, z!], { body: graphAttribute(body), num_scan_inputs: 2, ...attributes }, { count: 2 });
  };

describe("Scan", () => {
  test.each([{}, axes, backwards, { ...axes, ...backwards }])("%j", async (attributes: Record<string, number[]>) => {
    const x = attributes["scan_input_axes"] ? [3, 5] : [5, 3];
    const inputs = [{ dims: [3] }, { dims: x }, { dims: [5, 3] }, { dims: [3] }];
    const symbolic = { symbolic: ["shared"] } as const;
    await checkGradient(recurrence(attributes), inputs, symbolic);
    await checkGradient(
      recurrence(attributes),
      inputs.map((v, i) => ({ ...v, frozen: i === 3 })),
      symbolic,
    );
    await checkGradient((g, v) => recurrence(attributes)(g, v)[1]!, inputs, symbolic);
    await checkGradient((g, v) => recurrence(attributes)(g, v)[0]!, inputs, symbolic);
    await checkShapes(recurrence(attributes), inputs);
  });

  test("is differentiated twice over the same saved states", async () => {
    const g = createBuilder();
    const [s, x, z, w] = [[3], [5, 3], [5, 3], [3]].map((dims, i) => g.input(`x${i}`, "float32", dims));
    const [last, ys] = recurrence({})(g, [s!, x!, z!, w!]);
    const sum = (v: Value): Value => g.reduceSum(v, [...v.shape.keys()], false);
    differentiate(g, [{ value: sum(last!) }], [w!]);
    const outputs = g.nodes.find((n) => n.op === "Scan")!.outputs.length;
    differentiate(g, [{ value: sum(ys!) }], [x!]);
    expect(g.nodes.find((n) => n.op === "Scan")!.outputs).toHaveLength(outputs);
  });
});

/** Runs s' = s · w + x[i] a number of times and collects s'. */
const loop =
  (trips: (g: Builder) => Value) =>
  (g: Builder, [s, x, w]: Value[]): Value[] => {
    const body = buildSubgraph(g, "step", [scalar("int64"), scalar("bool"), s!], (b, [i, go, before]) => {
      const next = b.add(b.mul(before!, w!), b.gather(x!, i!));
      return [go!, next, next];
    });
    return g.op("Loop", [trips(g), g.constant("bool", 1), s!], { body: graphAttribute(body) }, { count: 2 });
  };

describe("Loop", () => {
  const inputs = [{ dims: [3] }, { dims: [4, 3] }, { dims: [3] }];
  test("a constant number of times", async () => {
    await checkGradient(
      loop((g) => g.constant("int64", 4)),
      inputs,
    );
    await checkGradient(
      loop((g) => g.constant("int64", 1)),
      inputs.map((v, i) => ({ ...v, frozen: i === 1 })),
    );
    await checkShapes(
      loop((g) => g.constant("int64", 3)),
      inputs,
    );
  });

  test("once per row of an input whose size is not known", async () => {
    const f = (g: Builder, v: Value[]): Value[] =>
      loop((b) => b.gather(b.shapeOf(v[1]!), b.constant("int64", 0)))(g, v);
    await checkGradient(f, inputs, { symbolic: ["shared"] });
  });

  test("carried values may grow where the number is constant", async () => {
    const f = (g: Builder, [s, w]: Value[]): Value => {
      const grown = { type: s!.type, shape: [g.freshSymbol()] };
      const body = buildSubgraph(g, "step", [scalar("int64"), scalar("bool"), grown], (b, [, go, before]) => [
        go!,
        b.concat([b.mul(before!, w!), w!], 0),
      ]);
      const [y] = g.op("Loop", [g.constant("int64", 3), null, s!], { body: graphAttribute(body) });
      return y!;
    };
    await checkGradient(f, [{ dims: [2] }, { dims: [1] }], { symbolic: [] });
  });

  test("is refused where the body decides", () => {
    const g = createBuilder();
    const s = g.input("s", "float32", [3]);
    const body = buildSubgraph(g, "step", [scalar("int64"), scalar("bool"), s], (b, [, , before]) => {
      const next = b.mul(before!, 2);
      return [b.less(b.reduceSum(next, [0], false), 100), next];
    });
    const [y] = g.op("Loop", [null, g.constant("bool", 1), s], { body: graphAttribute(body) });
    expect(() => differentiate(g, [{ value: g.reduceSum(y!, [0], false) }], [s])).toThrow(
      expect.objectContaining({ code: "NOT_DIFFERENTIABLE", message: expect.stringContaining("body decides") }),
    );
  });
});
