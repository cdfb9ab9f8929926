import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { CheckedInput } from "../testing/check-gradient.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const operators = [
  "ReduceSum",
  "ReduceMean",
  "ReduceMax",
  "ReduceMin",
  "ReduceProd",
  "ReduceL1",
  "ReduceL2",
  "ReduceSumSquare",
  "ReduceLogSum",
  "ReduceLogSumExp",
] as const;

/** Positive values without ties, some of them made negative where the operator has no logarithm. */
function values(op: string, dims: number[]): CheckedInput {
  const n = dims.reduce((a, b) => a * b, 1);
  const signed = !op.includes("Log");
  const data = Array.from({ length: n }, (_, i) => {
    const magnitude = 0.4 + ((i * 19) % 41) / 25;
    return signed && i % 3 === 0 ? -magnitude : magnitude;
  });
  return { dims, data };
}

const reduce =
  (op: string, axes: readonly number[] | null, attributes: Record<string, number> = {}, attributeAxes = false) =>
  (g: Builder, [x]: Value[]): Value => {
    const inputs = axes && !attributeAxes ? [x!, g.constant("int64", axes)] : [x!];
    return g.op(op, inputs, axes && attributeAxes ? { ...attributes, axes } : attributes)[0]!;
  };

describe.each(operators)("%s", (op) => {
  test.each([
    { dims: [6], axes: [0], keepdims: 1 },
    { dims: [2, 3], axes: [1], keepdims: 0 },
    { dims: [7, 5], axes: [-1], keepdims: 1 },
    { dims: [2, 3, 4], axes: [-1, 0], keepdims: 0 },
    { dims: [2, 3, 4], axes: [1], keepdims: 0 },
    { dims: [2, 3], axes: null, keepdims: 0 },
    { dims: [2, 3], axes: null, keepdims: 1 },
    { dims: [3, 1], axes: [1], keepdims: 1 },
  ])("$dims over $axes, keepdims $keepdims", ({ dims, axes, keepdims }) =>
    checkGradient(reduce(op, axes, { keepdims }), [values(op, dims)], { step: 4e-3 }),
  );

  test.each([11, 13, 17])("axes as an attribute where opset %s has them", async (opset) => {
    const asAttribute = op !== "ReduceSum" || opset < 13;
    for (const keepdims of [0, 1]) {
      const f = reduce(op, [1], { keepdims }, asAttribute);
      await checkGradient(f, [values(op, [2, 3, 4])], { opset, step: 4e-3 });
    }
  });

  const atRunTime =
    (keepdims: number) =>
    (g: Builder, inputs: Value[]): Value =>
      g.op(op, inputs, { keepdims })[0]!;
  const axes: CheckedInput = { dims: [2], data: [-1, 0], type: "int64" };
  test("axes computed at run time, kept", () =>
    checkGradient(atRunTime(1), [values(op, [2, 3, 4]), axes], { step: 4e-3 }));
  test("axes computed at run time, dropped: their number must be known", () =>
    checkGradient(atRunTime(0), [values(op, [2, 3, 4]), axes], { step: 4e-3, symbolic: [] }));

  test("empty axes are no reduction when the attribute says so", () =>
    checkGradient(reduce(op, [], { noop_with_empty_axes: 1 }), [values(op, [2, 3])], { step: 4e-3 }));
});

describe("edges as in PyTorch", () => {
  const all = (op: string, data: number[], dY?: number[]) => gradientAt(reduce(op, [0]), [data], dY).then(([dX]) => dX);
  test("equal extremes share", async () => {
    expect(await all("ReduceMax", [2, 1, 2])).toEqual([0.5, 0, 0.5]);
    expect(await all("ReduceMin", [-Infinity, 1, -Infinity])).toEqual([0.5, 0, 0.5]);
  });
  test("a product with zeros", async () => {
    expect(await all("ReduceProd", [2, 0, 3])).toEqual([0, 6, 0]);
    expect(await all("ReduceProd", [2, 0, 0])).toEqual([0, 0, 0]);
    expect(await all("ReduceProd", [2, 4, 3], [2])).toEqual([24, 12, 16]);
  });
  test("norms of zeros", async () => {
    expect(await all("ReduceL1", [0, 2, -3])).toEqual([0, 1, -1]);
    expect(await all("ReduceL2", [0, 0])).toEqual([0, 0]);
  });
  test("log-sum-exp with masked and with large values", async () => {
    expect(await all("ReduceLogSumExp", [0, -Infinity, 0])).toEqual([0.5, 0, 0.5]);
    expect(await all("ReduceLogSumExp", [200, 100])).toEqual([1, 0]);
  });
});

test.each(["ArgMax", "ArgMin"])("%s passes no gradient on", async (op) => {
  const f = (g: Builder, [x]: Value[]): Value => g.mul(g.cast(g.op(op, [x!], { axis: 0 })[0]!, "float32"), x!);
  expect(await gradientAt(f, [[5, 6, 5]])).toEqual([op === "ArgMax" ? [1, 1, 1] : [0, 0, 0]]);
});
