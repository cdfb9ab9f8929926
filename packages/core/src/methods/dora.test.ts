import { expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { lora } from "./lora.ts";

const [inFeatures, outFeatures, r, scale] = [5, 4, 2, 1.5] as const;
const random = testRandom(3);
const draw = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() * 2 - 1);
const weight = draw(outFeatures * inFeatures);

/** Norms of the rows of W + s·B·A. */
const normsAt = (A: Float32Array, B: Float32Array): number[] =>
  Array.from({ length: outFeatures }, (_, o) =>
    Math.hypot(
      ...Array.from({ length: inFeatures }, (_, i) => {
        let sum = weight[o * inFeatures + i]!;
        for (let k = 0; k < r; k++) sum += scale * B[o * r + k]! * A[k * inFeatures + i]!;
        return sum;
      }),
    ),
  );

test("gradients are those of the definition with the norms as constants", async () => {
  const g = createBuilder();
  const shapes = {
    x: [3, inFeatures],
    A: [r, inFeatures],
    B: [outFeatures, r],
    magnitude: [outFeatures],
    weights: [3, outFeatures],
  };
  const values = Object.fromEntries(
    Object.entries(shapes).map(([name, dims]) => [name, g.input(name, "float32", dims)]),
  );
  const w = g.initializer("w", {
    type: "float32",
    dims: [outFeatures, inFeatures],
    data: new Uint8Array(weight.buffer),
  });
  const { x, A, B, magnitude, weights } = values as Record<keyof typeof shapes, Value>;
  const base = (v: Value): Value => g.fusedMatMul(v, w, { transB: true });
  const site = {
    name: "s",
    kind: "linear",
    inFeatures,
    outFeatures,
    weightShape: [outFeatures, inFeatures],
    hasBias: false,
  } as const;
  const config = lora.config.parse({ r, alpha: r * scale, useDora: true });
  const y = lora.forward(
    g,
    { x, y: base(x), site, weight: () => w, bias: () => null, rows: {}, meanOverTokens: (v: Value) => v, base },
    { A, B, magnitude },
    config,
  );
  const loss = g.reduceSum(g.mul(y, weights), [0, 1], false);
  const wanted = [A, B, magnitude, x];
  g.output(loss, "loss");
  differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]!.name}`);
  });
  const session = await openBuilder(g);
  const at: Record<string, Float32Array> = Object.fromEntries(
    Object.entries(shapes).map(([name, dims]) => [name, draw(dims.reduce((a, b) => a * b, 1))]),
  );
  const run = async (v: Record<string, Float32Array>) =>
    session.run(
      Object.fromEntries(
        Object.entries(shapes).map(([name, dims]) => [
          name,
          { type: "float32", dims, data: v[name]! } satisfies RuntimeTensor,
        ]),
      ),
    );
  const analytic = await run(at);
  const norms = normsAt(at["A"]!, at["B"]!);
  for (const name of ["A", "B", "magnitude", "x"]) {
    const direction = at[name]!.map(() => random() * 2 - 1);
    const lossAt = async (h: number): Promise<number> => {
      const moved = { ...at, [name]: at[name]!.map((v, i) => v + h * direction[i]!) };
      // m grows with the norms, so that m / n is what it would be with constant norms.
      const now = normsAt(moved["A"]!, moved["B"]!);
      moved["magnitude"] = moved["magnitude"]!.map((m, i) => (m * now[i]!) / norms[i]!);
      return ((await run(moved))["loss"]!.data as Float32Array)[0]!;
    };
    const expected = (await lossAt(0.01)) - (await lossAt(-0.01));
    const found = (analytic[`d:${name}`]!.data as Float32Array).reduce((sum, d, i) => sum + d * direction[i]!, 0);
    expect(Math.abs(found - expected / 0.02), name).toBeLessThan(5e-3);
  }
  await session.close();
});
