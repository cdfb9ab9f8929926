import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import type { Builder } from "../graph/builder.ts";
import { createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

/** Q and back with one scale and zero point. */
const fake =
  (attributes: Record<string, number> = {}, between: (g: Builder, q: Value) => Value = (_, q) => q) =>
  (g: Builder, [x, scale]: Value[]): Value => {
    const count = scale!.shape.reduce<number>((n, d) => n * Number(d), 1);
    const zero = g.initializer("zero", tensorFrom("uint8", scale!.shape.map(Number), Array(count).fill(10)));
    const [q] = g.op("QuantizeLinear", [x!, scale!, zero], attributes);
    return g.op("DequantizeLinear", [between(g, q!), scale!, zero], attributes)[0]!;
  };

describe("QuantizeLinear", () => {
  // One scale 0.5, zero point 10: integers 0 to 255 are -5 to 122.5.
  const x = [0.6, -4.9, -6, 200, 1];
  test("passes gradients straight through, none where it clamps", async () => {
    const [dX] = await gradientAt(fake(), [x, { dims: [], data: [0.5] }], [1, 2, 3, 4, 5]);
    expect(dX).toEqual([1, 2, 0, 0, 5]);
  });

  test("the gradient of the scale is that of learned step sizes", async () => {
    const [, dScale] = await gradientAt(fake(), [x, { dims: [], data: [0.5] }], [1, 2, 3, 4, 5]);
    // inside: round(x/s) - x/s; outside: the integer that it is clamped to, less the zero point.
    const expected = 1 * (1 - 1.2) + 2 * (-10 + 9.8) + 3 * -10 + 4 * 245 + 5 * (2 - 2);
    expect(dScale![0]).toBeCloseTo(expected, 3);
  });

  test("per axis and per block, ragged", async () => {
    const matrix = { dims: [2, 3], data: [0.6, -6, 1, 1.3, 0.2, 500] };
    const [dX, dScale] = await gradientAt(fake({ axis: 0 }), [matrix, [0.5, 1]]);
    expect(dX).toEqual([1, 0, 1, 1, 1, 0]);
    expect(dScale![0]).toBeCloseTo(-0.2 - 10 + 0, 4);
    expect(dScale![1]).toBeCloseTo(-0.3 - 0.2 + 245, 4);
    const blocks = { dims: [2, 2], data: [0.5, 0.5, 1, 1] };
    const [dBlocked, dBlocks] = await gradientAt(fake({ axis: 1, block_size: 2 }), [matrix, blocks]);
    expect(dBlocked).toEqual([1, 0, 1, 1, 1, 0]);
    for (const [i, expected] of [-10.2, 0, -0.5, 245].entries()) expect(dBlocks![i]).toBeCloseTo(expected, 4);
  });

  test("gradients pass through what moves quantised values", async () => {
    const moved = fake({}, (g, q) => g.transpose(g.reshape(q, [2, 2]), [1, 0]));
    const [dX] = await gradientAt(moved, [[0.6, 1, 1.3, -6], { dims: [], data: [0.5] }], [1, 2, 3, 4]);
    expect(dX).toEqual([1, 3, 2, 0]);
  });

  test("the operator of ONNX Runtime's domain", async () => {
    const f = (g: Builder, [v, scale]: Value[]): Value => {
      const zero = g.initializer("zero", tensorFrom("uint16", [], [10]));
      const domain = { domain: "com.microsoft" };
      const [q] = g.op("QuantizeLinear", [v!, scale!, zero], {}, domain);
      return g.op("DequantizeLinear", [q!, scale!, zero], {}, domain)[0]!;
    };
    const [dX] = await gradientAt(f, [x, { dims: [], data: [0.5] }], undefined, 19);
    expect(dX).toEqual([1, 1, 0, 1, 1]);
  });

  test("stops at other integers", () => {
    const g = createBuilder();
    const v = g.input("x", "float32", [3]);
    const y = g.cast(g.cast(v, "int32"), "float32");
    expect(() => differentiate(g, [{ value: g.reduceSum(y, [0], false) }], [v])).toThrow(
      expect.objectContaining({ code: "GRADIENT_UNREACHED" }),
    );
  });
});

/** Integers from -100 to 155, both among them: the scale is 1 and the zero point 100, so nothing is rounded. */
const byte = (dims: number[], ...data: number[]) => ({ dims, data });

describe("DynamicQuantizeLinear", () => {
  test("passes gradients straight through; nothing is clamped, and the range counts as constant", async () => {
    const f = (g: Builder, [x]: Value[]): Value => {
      const [q, scale, zero] = g.op("DynamicQuantizeLinear", [x!], {}, { count: 3 });
      return g.op("DequantizeLinear", [q!, scale!, zero!])[0]!;
    };
    const [dX] = await gradientAt(f, [{ dims: [2, 2], data: [-3, 0.1, 250, 17] }], [1, -2, 3, 4]);
    for (const [i, expected] of [1, -2, 3, 4].entries()) expect(dX![i]).toBeCloseTo(expected, 5);
  });

  test("integer products: of two activations, and with a weight whose zero points are per column", async () => {
    const [a, b] = [byte([2, 2], -100, 3, 155, -7), byte([2, 3], 155, 1, 2, -5, -100, 0)];
    const dY = [1, -2, 3, 4, 5, -6];
    const both = (g: Builder, [x, y]: Value[]): Value => {
      const [qx, sx, zx] = g.op("DynamicQuantizeLinear", [x!], {}, { count: 3 });
      const [qy, sy, zy] = g.op("DynamicQuantizeLinear", [y!], {}, { count: 3 });
      const product = g.cast(g.op("MatMulInteger", [qx!, qy!, zx!, zy!])[0]!, "float32");
      return g.mul(product, g.mul(sx!, sy!));
    };
    const [dA, dB] = await gradientAt(both, [a, b], dY);
    expect(dA).toEqual([1 * 155 - 2 + 6, -5 + 200, 4 * 155 + 5 - 12, -20 - 500]);
    expect(dB).toEqual([-100 + 4 * 155, 200 + 5 * 155, -300 - 6 * 155, 3 - 28, -6 - 35, 9 + 42]);
    const weighted = (g: Builder, [x]: Value[]): Value => {
      const [q, scale, zero] = g.op("DynamicQuantizeLinear", [x!], {}, { count: 3 });
      const weight = g.initializer("w", tensorFrom("uint8", [2, 3], [155, 1, 2, 0, 9, 0]));
      const zeros = g.initializer("z", tensorFrom("uint8", [3], [0, 1, 2]));
      return g.mul(g.cast(g.op("MatMulInteger", [q!, weight, zero!, zeros])[0]!, "float32"), scale!);
    };
    // W less its zero points: [[155, 0, 0], [0, 8, -2]].
    expect((await gradientAt(weighted, [a], dY))[0]).toEqual([155, -16 - 6, 4 * 155, 40 + 12]);
  });

  test("an integer convolution", async () => {
    const f = (g: Builder, [x]: Value[]): Value => {
      const [q, scale, zero] = g.op("DynamicQuantizeLinear", [x!], {}, { count: 3 });
      const weight = g.initializer("w", tensorFrom("uint8", [2, 1, 2], [5, 6, 7, 10]));
      const zeros = g.initializer("z", tensorFrom("uint8", [2], [3, 9]));
      const y = g.op("ConvInteger", [q!, weight, zero!, zeros], { pads: [1, 0] })[0]!;
      return g.mul(g.cast(y, "float32"), scale!);
    };
    // W less its zero points: [2, 3] and [-2, 1]; one zero in front of x.
    const [dX] = await gradientAt(f, [byte([1, 1, 3], -100, 4, 155)], [1, 2, 3, 4, 5, 6]);
    expect(dX).toEqual([3 + 4 + 4 - 10, 6 + 6 + 5 - 12, 9 + 6]);
  });
});

describe("DequantizeLinear", () => {
  const back =
    (attributes: Record<string, number>, type: "int8" | "uint4" | "int32", withZero = true) =>
    (g: Builder, [scale]: Value[]): Value => {
      const q = g.initializer("q", tensorFrom(type, [4, 3], [1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4]));
      const dims = scale!.shape.map(Number);
      const count = dims.reduce((a, b) => a * b, 1);
      const zero = g.initializer("z", tensorFrom(type, dims, Array(count).fill(2)));
      return g.op("DequantizeLinear", [q, scale!, withZero ? zero : null], attributes)[0]!;
    };
  const scale = (...dims: number[]) => [{ dims, range: [0.1, 1] as const }];
  const options = { symbolic: [] } as const;

  test("the gradient of scales: one, per axis, per block", async () => {
    await checkGradient(back({}, "int8"), scale(), { ...options, opset: 13 });
    await checkGradient(back({}, "int32", false), scale(), { ...options, opset: 11 });
    await checkGradient(back({ axis: 1 }, "int8"), scale(3), { ...options, opset: 13 });
    await checkGradient(back({ axis: -2 }, "int8", false), scale(4), { ...options, opset: 19 });
    await checkGradient(back({ axis: 0, block_size: 2 }, "int8"), scale(2, 3), options);
    await checkGradient(back({ axis: 1, block_size: 2 }, "uint4"), scale(4, 2), options);
  });

  test.each(["", "com.microsoft"])("sizes that are not known, domain %j", async (domain) => {
    const f = (g: Builder, [q, s]: Value[]): Value => g.op("DequantizeLinear", [q!, s!], { axis: 1 }, { domain })[0]!;
    const q = { dims: [4, 3], type: "int32", data: [1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4] } as const;
    await checkGradient(f, [q, { dims: [3], range: [0.1, 1] }], { symbolic: ["shared"], opset: 19 });
  });
});
