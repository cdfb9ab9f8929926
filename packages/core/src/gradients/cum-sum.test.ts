import { describe, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";

const cumSum =
  (axis: number, attributes: Record<string, number> = {}) =>
  (g: Builder, [x]: Value[]): Value =>
    g.op("CumSum", [x!, g.constant("int64", axis)], attributes)[0]!;

describe("CumSum", () => {
  test.each([{}, { exclusive: 1 }, { reverse: 1 }, { exclusive: 1, reverse: 1 }])("%j", async (attributes) => {
    await checkGradient(cumSum(0, attributes), [{ dims: [6] }]);
    await checkGradient(cumSum(-1, attributes), [{ dims: [7, 5] }]);
    await checkGradient(cumSum(1, attributes), [{ dims: [2, 3, 4] }], { opset: 11 });
  });
  test("the axis may be computed at run time", () =>
    checkGradient(
      (g, inputs) => g.op("CumSum", inputs)[0]!,
      [{ dims: [2, 3] }, { dims: [], data: [1], type: "int64" }],
    ));
});
