import { expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { gradientAt } from "../testing/gradient-at.ts";

test("the gradient passes straight through the rounding of DynamicQuantizeMatMul", async () => {
  const weight = [1, -2, 3, 4, 5, -6, 7, 8, -9, 10, 11, 12]; // [4, 3]
  const scales = [0.1, 0.2, 0.5];
  const f = (g: Builder, [x, bias]: Value[]): Value => {
    const w = g.initializer("w", tensorFrom("int8", [4, 3], weight));
    const s = g.initializer("s", tensorFrom("float32", [3], scales));
    return g.op("DynamicQuantizeMatMul", [x!, w, s, null, bias!], {}, { domain: "com.microsoft" })[0]!;
  };
  const dY = [1, -1, 2, 0.5, 0.25, -3];
  const x = { dims: [2, 4], data: [0.3, -1, 0.7, 0.2, 1.1, -0.4, 0.9, -0.8] };
  const [dX, dBias] = await gradientAt(f, [x, { dims: [3], data: [0, 0, 0] }], dY);
  const expected = [0, 1].flatMap((row) =>
    [0, 1, 2, 3].map((k) => [0, 1, 2].reduce((sum, n) => sum + dY[row * 3 + n]! * weight[k * 3 + n]! * scales[n]!, 0)),
  );
  for (const [i, value] of expected.entries()) expect(dX![i]).toBeCloseTo(value, 4);
  expect(dBias).toEqual([1.5, -0.75, -1]);
});
