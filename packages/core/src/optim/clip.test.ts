import { describe, expect, test } from "vitest";
import { checkGradientsFinite, clipGlobalNorm, findNotFinite, globalNorm, normsByModule } from "./clip.ts";

const gradient = (n: number, seed: number, t: number) =>
  Float32Array.from({ length: n }, (_, i) =>
    (i + t) % 5 === 0 ? 0 : Math.sin(seed + 0.7 * i + 1.3 * t) * 10 ** (-(i % 4) * 2),
  );

/** torch.nn.utils.clip_grad_norm_([a, b], 0.5) of PyTorch 2.15 on the gradients below. */
const golden = {
  norm: 1.150195598602295,
  a: [
    0.4233396351337433, 0.002601607935503125, -2.5375725272169802e-6, -2.989776533013355e-7, 0.0,
    -0.0036179358139634132,
  ],
  b: [-0.26597970724105835, -0.004249404650181532, -3.840450517600402e-5],
};

describe("clipGlobalNorm", () => {
  test("equals torch's clip_grad_norm_", () => {
    const gradients = new Map([
      ["a", gradient(6, 0.5, 1)],
      ["b", gradient(3, 2.5, 1)],
    ]);
    expect(clipGlobalNorm(gradients, 0.5)).toBeCloseTo(golden.norm, 6);
    for (const key of ["a", "b"] as const) {
      golden[key].forEach((expected, i) => {
        expect(Math.abs(gradients.get(key)![i]! - expected)).toBeLessThanOrEqual(1e-6 * Math.abs(expected));
      });
    }
    expect(globalNorm(gradients)).toBeCloseTo(0.5, 5);
  });

  test("leaves small gradients bit-equal", () => {
    const gradients = new Map([["a", Float32Array.of(3, 4)]]);
    expect(clipGlobalNorm(gradients, 6)).toBe(5);
    expect(gradients.get("a")).toEqual(Float32Array.of(3, 4));
  });

  test("accumulates in double: a million small values beside a large one", () => {
    const values = new Float32Array(1_000_001).fill(1e-3);
    values[0] = 1000;
    expect(globalNorm(new Map([["a", values]])) ** 2 - 1e6).toBeCloseTo(1, 3);
  });
});

describe("NaN and infinity", () => {
  const bad = () =>
    new Map([
      ["fine", Float32Array.of(1, 2)],
      ["layer.1.lora_B.weight", Float32Array.of(0, Number.NaN, Number.POSITIVE_INFINITY)],
      ["layer.2.lora_B.weight", Float32Array.of(Number.NEGATIVE_INFINITY)],
    ]);

  test("the error names the parameter, and nothing is scaled", () => {
    const gradients = bad();
    expect(() => clipGlobalNorm(gradients, 0.1)).toThrow(
      /expected finite gradients, received NaN at "layer.1.lora_B.weight"\[1\] and 1 more parameters/,
    );
    expect(gradients.get("fine")).toEqual(Float32Array.of(1, 2));
    expect(() => checkGradientsFinite(gradients)).toThrow(expect.objectContaining({ code: "GRADIENT_NOT_FINITE" }));
    expect(() => checkGradientsFinite(new Map([["x", Float32Array.of(3e38, -3e38)]]))).not.toThrow();
  });

  test("findNotFinite lists all of them", () => {
    expect(findNotFinite(bad())).toEqual([
      { name: "layer.1.lora_B.weight", index: 1, value: Number.NaN, count: 2 },
      { name: "layer.2.lora_B.weight", index: 0, value: Number.NEGATIVE_INFINITY, count: 1 },
    ]);
    expect(findNotFinite(new Map())).toEqual([]);
  });
});

test("normsByModule adds the matrices of a site", () => {
  const norms = normsByModule(
    new Map([
      ["encoder.layer.0.query.lora_A.weight", Float32Array.of(3)],
      ["encoder.layer.0.query.lora_B.weight", Float32Array.of(4)],
      ["encoder.layer.1.query.lora_A.weight", Float32Array.of(2)],
      ["classifier.bias", Float32Array.of(7)],
    ]),
  );
  expect(Object.fromEntries(norms)).toEqual({ "encoder.layer.0.query": 5, "encoder.layer.1.query": 2, classifier: 7 });
});
