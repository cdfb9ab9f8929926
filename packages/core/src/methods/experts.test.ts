import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { largest, weighedExperts } from "./experts.ts";

const [experts, r, inFeatures, outFeatures] = [3, 2, 4, 5] as const;
const values = (n: number, phase: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(1.7 * i + phase));

test("weighed experts are the sum of their updates, also with a weight of zero", async () => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["batch", "tokens", inFeatures]);
  const w = g.input("w", "float32", ["batch", "tokens", experts]);
  const [A, B] = [
    g.input("A", "float32", [experts, r, inFeatures]),
    g.input("B", "float32", [experts, outFeatures, r]),
  ];
  g.output(weighedExperts(g, x, w, A, B), "y");
  const data = { x: values(8, 0), w: Float32Array.of(0, 1, 2, 0.5, 0, 0), A: values(24, 1), B: values(30, 2) };
  const session = await openBuilder(g);
  const feed = (d: Float32Array, dims: readonly number[]) => ({ type: "float32", dims, data: d }) as const;
  const { y } = await session.run({
    x: feed(data.x, [1, 2, 4]),
    w: feed(data.w, [1, 2, 3]),
    A: feed(data.A, [3, 2, 4]),
    B: feed(data.B, [3, 5, 2]),
  });
  await session.close();
  expect(y!.dims).toEqual([1, 2, outFeatures]);
  for (let t = 0; t < 2; t++)
    for (let o = 0; o < outFeatures; o++) {
      let sum = 0;
      for (let e = 0; e < experts; e++)
        for (let k = 0; k < r; k++)
          for (let i = 0; i < inFeatures; i++)
            sum +=
              data.w[3 * t + e]! *
              data.B[(e * outFeatures + o) * r + k]! *
              data.A[(e * r + k) * inFeatures + i]! *
              data.x[4 * t + i]!;
      expect(y!.data[t * outFeatures + o]).toBeCloseTo(sum, 5);
    }
});

test.each(["as they are", "softmax"] as const)("gradient of the largest scores, %s", (mode) =>
  checkGradient(
    (g, [x]) => g.mul(largest(g, x as Value, 2, mode), g.constant("float32", [1, -2, 3, 0.5])),
    [{ dims: [3, 4] }],
  ),
);
