import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { tensorFrom, toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { convertibleProducts, createInt8Plan } from "./plan.ts";
import { quantizeColumns } from "./quantize-columns.ts";
import { createTensorFile } from "./tensor-file.ts";
import { fourLayers, HIDDEN, IN } from "./testing/four-layers.ts";
import { cosine, run, withGradient } from "./testing/gradient-run.ts";
import { detectWeightBits, isExact } from "./weight-bits.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-int8-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const random = createRandom(5);
const normal = (n: number, scale = 1): Float32Array => random.fillNormal(new Float32Array(n), 0, scale);

const feeds = (change: (x: Float32Array, dy: Float32Array) => void = () => {}): Feeds => {
  const [x, dy] = [normal(3 * 5 * IN), normal(15 * IN)];
  change(x, dy);
  return {
    x: { type: "float32", dims: [3, 5, IN], data: x },
    dy: { type: "float32", dims: [15, IN], data: dy },
  };
};

describe("quantizeColumns", () => {
  test.each([8, 7] as const)("%i bits: every value within half a step of its column", (bits) => {
    const w = normal(20 * 6);
    for (let i = 0; i < 20; i++) w[i * 6 + 3] = 0;
    const { weight, scales } = quantizeColumns(w, 20, 6, bits);
    const [codes, steps] = [toNumbers(weight), toFloat32Array(scales)];
    expect(Math.max(...codes.map(Math.abs))).toBe(bits === 8 ? 127 : 64);
    const errors = codes.map((code, i) => Math.abs(code * steps[i % 6]! - w[i]!) / steps[i % 6]!);
    expect(Math.max(...errors)).toBeLessThanOrEqual(0.5001);
    expect(steps[3]).toBe(1);
  });
  test("factors belong to rows", () => {
    const { weight, scales } = quantizeColumns(Float32Array.of(1, 1, 1, 1), 2, 2, 8, Float32Array.of(1, 0.5));
    expect(toNumbers(weight)).toEqual([127, 127, 64, 64]);
    expect([...toFloat32Array(scales)].map((v) => Math.round(v * 127))).toEqual([1, 1]);
  });
});

describe("weight bits", () => {
  test("this machine's kernels are exact with the bits that were found", async () => {
    expect([7, 8]).toContain(await detectWeightBits(onnxruntimeNode));
  });
  test("a saturated sum is seen", () => {
    expect(isExact([64 * 127, 64 * 127])).toBe(true);
    expect(isExact([64 * 127, (32 * 32767) / 255])).toBe(false);
  });
});

describe("a plan", () => {
  const model = fourLayers();
  test("finds every layer however it is written, with the matrix as it is applied", () => {
    const found = [...convertibleProducts(model).values()].map((p) => [
      p.weight,
      p.flipped,
      p.inFeatures,
      p.outFeatures,
    ]);
    expect(found).toEqual([
      ["a", false, IN, HIDDEN],
      ["b", true, HIDDEN, HIDDEN],
      ["c", false, HIDDEN, HIDDEN],
      ["d", true, HIDDEN, IN],
    ]);
  });

  test.each([8, 7] as const)("%i bits: output and gradient are those of float32 up to rounding", async (bits) => {
    const plan = createInt8Plan(model, { bits });
    const g = withGradient(model, plan);
    const ops = g.finish().nodes.map((n) => n.op);
    expect(ops.filter((op) => op === "DynamicQuantizeMatMul")).toHaveLength(8);
    expect(ops).not.toContain("MatMul");
    expect(ops).not.toContain("Gemm");
    const fed = feeds();
    const [exact, rounded] = [await run(withGradient(model, null), fed), await run(g, fed)];
    expect(cosine(exact.y, rounded.y)).toBeGreaterThan(bits === 8 ? 0.9995 : 0.999);
    expect(cosine(exact.dx, rounded.dx)).toBeGreaterThan(bits === 8 ? 0.9995 : 0.999);
  });

  test("rows of dY that differ by orders of magnitude each keep their precision", async () => {
    const fed = feeds((_, dy) =>
      dy.forEach((v, i) => {
        dy[i] = i < IN ? v * 1000 : v;
      }),
    );
    const exact = await run(withGradient(model, null), fed);
    const rounded = await run(withGradient(model, createInt8Plan(model, { bits: 8 })), fed);
    expect(cosine(exact.dx.subarray(IN), rounded.dx.subarray(IN))).toBeGreaterThan(0.999);
  });

  test("a row of zeros has a gradient of zeros", async () => {
    const fed = feeds((_, dy) => dy.fill(0, 0, IN));
    const { dx } = await run(withGradient(model, createInt8Plan(model, { bits: 8 })), fed);
    expect(dx.subarray(0, IN).every((v) => v === 0)).toBe(true);
    expect(dx.every(Number.isFinite)).toBe(true);
  });

  test("smoothing: outlier channels of x, divided away and multiplied into the weight", async () => {
    const outliers = [5, 77];
    const fed = feeds((x) =>
      x.forEach((v, i) => {
        if (outliers.includes(i % IN)) x[i] = v * 40;
      }),
    );
    const s = new Float32Array(IN).fill(1);
    for (const channel of outliers) s[channel] = 40 ** 0.75;
    const exact = await run(withGradient(model, null), fed);
    const plain = await run(withGradient(model, createInt8Plan(model, { bits: 8 })), fed);
    const smooth = createInt8Plan(model, { bits: 8, smoothing: new Map([["a", s]]) });
    const smoothed = await run(withGradient(model, smooth), fed);
    const error = (result: { y: Float32Array; dx: Float32Array }): number => 1 - cosine(exact.dx, result.dx);
    expect(error(smoothed)).toBeLessThan(error(plain) / 3);
    expect(error(smoothed)).toBeLessThan(2e-3);
  });

  test("what is to stay in float32 stays, and is listed", () => {
    const plan = createInt8Plan(model, { bits: 8, keep: new Map([["c", "its error is too large"]]) });
    expect(plan.kept).toEqual([{ name: "c", reason: "its error is too large" }]);
    const ops = withGradient(model, plan)
      .finish()
      .nodes.map((n) => n.op);
    expect(ops.filter((op) => op === "Gemm")).toHaveLength(2); // forward and backward of c
  });

  test("small products are left alone", () => {
    const g = createBuilder(17);
    const w = g.initializer("w", tensorFrom("float32", [100, 3], normal(300)));
    g.output(g.matMul(g.input("x", "float32", ["n", 100]), w), "y");
    expect(convertibleProducts(toModel(g.finish(), 17)).size).toBe(0);
  });

  test("with a file, a graph holds neither float32 nor copied weights", async () => {
    const file = createTensorFile(join(folder, "weights"));
    const plan = createInt8Plan(model, { bits: 8, store: file.append });
    file.close();
    const g = withGradient(model, plan);
    const large = [...g.finish().initializers.values()].filter((t) => t.dims.length === 2);
    expect(large).toHaveLength(8);
    for (const tensor of large) {
      expect(tensor.type).toBe("int8");
      expect(tensor.data).not.toBeInstanceOf(Uint8Array);
    }
    const fed = feeds();
    const inMemory = await run(withGradient(model, createInt8Plan(model, { bits: 8 })), fed);
    expect((await run(g, fed)).dx).toEqual(inMemory.dx);
  });
});
