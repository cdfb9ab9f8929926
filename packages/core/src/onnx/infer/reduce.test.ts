import { describe, expect, test } from "vitest";
import type { Builder } from "../../graph/builder.ts";
import { createBuilder } from "../../graph/builder.ts";
import { checkShapes } from "../../testing/check-shapes.ts";
import type { Value } from "../ir.ts";

const names =
  "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp".split(
    " ",
  );

describe.each(names)("%s", (op) => {
  const x = { dims: [2, 3, 4] };
  const reduce =
    (axes: number[] | null, attributes: Record<string, number> = {}) =>
    (g: Builder, [v]: Value[]): Value =>
      g.op(op, axes ? [v!, g.ints(axes)] : [v!], attributes)[0]!;
  test.each([[[0]], [[-1]], [[2, 0]], [[-2, 0]], [null], [[]]])("axes %j, kept and dropped", async (axes) => {
    for (const keepdims of [0, 1]) await checkShapes(reduce(axes, { keepdims }), [x]);
  });
  test("empty axes reduce nothing when the attribute says so", async () => {
    await checkShapes(reduce([], { noop_with_empty_axes: 1 }), [x]);
    await checkShapes(reduce(null, { noop_with_empty_axes: 1, keepdims: 0 }), [x]);
  });
  test("axes as an attribute", () =>
    checkShapes((g, [v]) => g.op(op, [v!], { axes: [-1, 0], keepdims: 0 })[0]!, [x], 11));
});

test.each(["ArgMax", "ArgMin"])("%s", async (op) => {
  for (const keepdims of [0, 1]) {
    await checkShapes((g, [x]) => g.op(op, [x!], { axis: -2, keepdims })[0]!, [{ dims: [2, 3, 4] }]);
  }
});

test("axes computed at run time: kept sizes are open, dropped ones need their number", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [2, 3, 1]);
  const sum = (axes: Value, keepdims: number): Value => g.op("ReduceSum", [x, axes], { keepdims })[0]!;
  const two = g.input("two", "int64", [2]);
  expect(sum(two, 1).shape).toEqual([expect.stringMatching(/^\?/), expect.stringMatching(/^\?/), 1]);
  expect(sum(two, 0).shape).toHaveLength(1);
  expect(() => sum(g.input("some", "int64", ["n"]), 0)).toThrow(expect.objectContaining({ code: "SHAPE_INFERENCE" }));
});
