import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { float } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import { createBuilder } from "../graph/builder.ts";
import { elementTypes } from "../onnx/element-type.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const shapes = [[], [6], [7, 5], [2, 3, 4]];

describe("Identity", () => {
  test.each(shapes)("%#", (...dims) => checkGradient((g, [x]) => g.identity(g.mul(x!, x!)), [{ dims }]));
});

describe("Cast", () => {
  const there = (g: Builder, [x]: Value[]): Value => g.cast(g.exp(g.cast(x!, "float64")), "float32");
  test.each(shapes)("through double precision %#", (...dims) => checkGradient(there, [{ dims }]));
  test("the gradient has the type of the input", () => {
    const g = createBuilder();
    const x = g.input("x", "float16", [2]);
    const y = g.cast(x, "float32");
    const dY = g.input("dy", "float32", [2]);
    expect(differentiate(g, [{ value: y, gradient: dY }], [x])[0]).toMatchObject({ type: "float16", shape: [2] });
  });
  test("through integers nothing flows", async () => {
    const f = (g: Builder, [x]: Value[]): Value => g.add(g.cast(g.cast(x!, "int32"), "float32"), g.mul(x!, 2));
    expect(await gradientAt(f, [[1.5, -2.5]])).toEqual([[2, 2]]);
  });
  test("CastLike", async () => {
    const f = (g: Builder, [x]: Value[]): Value => {
      const [wide] = g.op("CastLike", [x!, g.constant("float64", 0)]);
      return g.op("CastLike", [g.mul(wide!, wide!), x!])[0]!;
    };
    await checkGradient(f, [{ dims: [7, 5] }]);
  });
});

describe("Dropout", () => {
  test("old form with an attribute", () =>
    checkGradient((g, [x]) => g.op("Dropout", [g.mul(x!, x!)], { ratio: float(0.5) })[0]!, [{ dims: [2, 3] }], {
      opset: 11,
    }));
  test("inference: no mode, or a constant false", async () => {
    await checkGradient(
      (g, [x]) => g.op("Dropout", [g.mul(x!, x!), g.constant("float32", 0.5)])[0]!,
      [{ dims: [2, 3] }],
    );
    const off = (g: Builder, [x]: Value[]): Value =>
      g.op("Dropout", [g.mul(x!, x!), g.constant("float32", 0.5), g.constant("bool", 0)])[0]!;
    await checkGradient(off, [{ dims: [7, 5] }]);
  });
  test.each([
    ["constant true", (g: Builder) => g.constant("bool", 1)],
    ["an input", (g: Builder) => g.input("training", "bool", [])],
  ])("training mode is refused: %s", (_, mode) => {
    const g = createBuilder();
    const x = g.input("x", "float32", [3]);
    const [y] = g.op("Dropout", [x, g.constant("float32", 0.5), mode(g)]);
    const loss = g.reduceSum(y!, [0], false);
    expect(() => differentiate(g, [{ value: loss }], [x])).toThrow(
      expect.objectContaining({ code: "DROPOUT_TRAINING" }),
    );
  });
});

test("StopGradient stops, and is gone from the finished graph", async () => {
  expect(await gradientAt((g, [x]) => g.mul(g.stopGradient(x!), x!), [[2, 3]])).toEqual([[2, 3]]);
  const g = createBuilder();
  g.output(g.stopGradient(g.exp(g.input("x", "float32", [elementTypes.float32.code]))), "y");
  expect(g.finish().nodes.map((n) => n.op)).not.toContain("StopGradient");
});
