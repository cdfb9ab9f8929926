import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import type { AttributeInput } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { type CheckedFunction, checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

interface Case {
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly attributes?: Record<string, AttributeInput>;
}

/** The kernel is an attribute, as exporters write it; without it symbolic weights have no known size. */
const layer =
  (op: string, { w, attributes = {} }: Case): CheckedFunction =>
  (g, inputs) =>
    g.op(op, inputs, { kernel_shape: w.slice(2), ...attributes });

const check = (op: string, given: Case, options = {}) =>
  checkGradient(layer(op, given), [{ dims: given.x }, { dims: given.w }], options);

const cases: readonly Case[] = [
  { x: [2, 3, 5], w: [4, 3, 3] },
  { x: [1, 2, 7], w: [3, 2, 2], attributes: { strides: [2], pads: [1, 0] } },
  { x: [2, 2, 8], w: [2, 2, 3], attributes: { dilations: [2], pads: [2, 1] } },
  { x: [1, 2, 9], w: [2, 2, 2], attributes: { dilations: [3], strides: [2] } },
  { x: [2, 3, 5, 4], w: [2, 3, 3, 2], attributes: { pads: [1, 0, 1, 1] } },
  { x: [2, 4, 6, 5], w: [4, 2, 3, 3], attributes: { group: 2, pads: [1, 1, 1, 1] } },
  { x: [2, 4, 6, 7], w: [6, 2, 3, 3], attributes: { group: 2, strides: [2, 3], pads: [1, 0, 0, 1] } },
  { x: [2, 3, 6, 6], w: [3, 1, 3, 3], attributes: { group: 3, pads: [1, 1, 1, 1] } }, // depth-wise
  { x: [1, 2, 7, 8], w: [4, 1, 2, 2], attributes: { group: 2, strides: [2, 2] } }, // depth-wise, multiplier 2
  { x: [2, 3, 4, 5], w: [5, 3, 1, 1] },
  { x: [2, 3, 5, 7], w: [2, 3, 1, 1], attributes: { strides: [2, 2] } },
  { x: [1, 2, 8, 8], w: [3, 2, 4, 4], attributes: { strides: [4, 4] } }, // patches
  { x: [2, 1, 9, 10], w: [2, 1, 6, 6], attributes: { pads: [2, 3, 1, 0] } }, // swapped: more than 27 places
  { x: [1, 1, 11, 12], w: [2, 1, 6, 5], attributes: { strides: [2, 3] } },
  { x: [1, 130, 4, 3], w: [130, 130, 2, 2], attributes: { pads: [1, 0, 0, 1] } }, // swapped: many channels
  { x: [1, 1, 4, 4], w: [2, 1, 2, 2], attributes: { pads: [3, 3, 3, 3] } }, // padding wider than the kernel
  { x: [1, 2, 4, 5, 3], w: [2, 2, 2, 3, 2], attributes: { strides: [1, 2, 1], pads: [0, 1, 1, 1, 1, 0] } },
  { x: [2, 2, 3, 4, 3], w: [2, 1, 2, 2, 2], attributes: { group: 2 } },
];

describe("Conv", () => {
  test.each(cases)("$x by $w, $attributes", (given) => check("Conv", given));

  const same = ["SAME_UPPER", "SAME_LOWER", "VALID"];
  test.each(same)("%s", async (auto_pad) => {
    await check("Conv", { x: [1, 2, 7], w: [2, 2, 3], attributes: { auto_pad } });
    await check("Conv", { x: [1, 2, 6, 7], w: [2, 2, 3, 4], attributes: { auto_pad, strides: [2, 3] } });
    await check("Conv", { x: [2, 2, 9], w: [2, 2, 2], attributes: { auto_pad, strides: [4] } });
    await check("Conv", { x: [1, 1, 8, 10], w: [2, 1, 6, 6], attributes: { auto_pad, strides: [2, 1] } });
  });

  test("bias, a frozen input each, old opsets", async () => {
    const f = layer("Conv", { x: [], w: [0, 0, 3], attributes: { pads: [1, 1] } });
    const [x, w, b] = [{ dims: [2, 3, 5] }, { dims: [4, 3, 3] }, { dims: [4] }] as const;
    await checkGradient(f, [x, w, b]);
    await checkGradient(f, [{ ...x, frozen: true }, w, b], { opset: 11 });
    await checkGradient(f, [x, { ...w, frozen: true }, b], { opset: 17 });
    await checkGradient(f, [x, { ...w, constant: true }, { ...b, constant: true }]);
  });

  test("a frozen weight keeps no activation: X is no operand of the backward", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["batch", 3, "height", "width"]);
    const w = g.input("w", "float32", [4, 3, 3, 3]);
    const [y] = g.op("Conv", [x, w], { pads: [1, 1, 1, 1], strides: [2, 2] });
    const before = g.nodes.length;
    differentiate(g, [{ value: y!, gradient: g.input("dY", "float32", y!.shape) }], [x]);
    const readers = g.nodes.slice(before).filter((n) => n.inputs.includes("x"));
    expect(readers.map((n) => n.op).filter((op) => op !== "Shape")).toEqual([]);
  });

  test("a kernel whose size is not known is refused", () => {
    const g = createBuilder();
    const [x, w] = [g.input("x", "float32", [1, 2, 5]), g.input("w", "float32", [3, 2, "k"])];
    const [y] = g.op("Conv", [x, w]);
    const dY = g.input("dY", "float32", y!.shape);
    expect(() => differentiate(g, [{ value: y!, gradient: dY }], [x])).toThrow(
      expect.objectContaining({ code: "DYNAMIC_KERNEL" }),
    );
  });

  test("by hand: y = x0 w0 + x1 w1, x1 w0 + x2 w1", async () => {
    const f: CheckedFunction = (g, v) => g.op("Conv", v)[0]!;
    const points = [
      { dims: [1, 1, 3], data: [1, 2, 3] },
      { dims: [1, 1, 2], data: [10, 100] },
    ];
    expect(await gradientAt(f, points, [1, 5])).toEqual([
      [10, 150, 500],
      [11, 17],
    ]);
  });
});

describe("ConvTranspose", () => {
  const transposed: readonly Case[] = [
    { x: [2, 3, 5], w: [3, 4, 3] },
    { x: [1, 2, 4], w: [2, 3, 3], attributes: { strides: [2], pads: [1, 0] } },
    { x: [1, 2, 4], w: [2, 3, 3], attributes: { strides: [3], output_padding: [2], pads: [1, 1] } },
    { x: [1, 2, 4], w: [2, 2, 3], attributes: { dilations: [3], pads: [0, 1] } },
    { x: [1, 2, 4], w: [2, 2, 2], attributes: { dilations: [3], strides: [2], output_padding: [1], pads: [1, 0] } },
    { x: [2, 3, 3, 4], w: [3, 2, 2, 3], attributes: { strides: [2, 2], pads: [0, 1, 1, 0] } },
    { x: [2, 4, 3, 3], w: [4, 3, 3, 2], attributes: { group: 2, strides: [2, 1], output_padding: [1, 0] } },
    { x: [1, 3, 4, 3], w: [3, 1, 2, 2], attributes: { group: 3, strides: [2, 2] } },
    { x: [1, 2, 3, 4], w: [2, 1, 6, 6], attributes: { pads: [2, 2, 2, 2] } }, // swapped: more than 27 places
    { x: [1, 2, 2, 3, 2], w: [2, 2, 2, 2, 2], attributes: { strides: [2, 1, 2] } },
    { x: [1, 2, 2, 3, 2], w: [2, 1, 2, 2, 2], attributes: { group: 2 } },
  ];
  test.each(transposed)("$x by $w, $attributes", (given) => check("ConvTranspose", given));

  test.each(["SAME_UPPER", "SAME_LOWER", "VALID"])("%s", async (auto_pad) => {
    await check("ConvTranspose", { x: [1, 2, 4], w: [2, 2, 3], attributes: { auto_pad, strides: [2] } });
    await check("ConvTranspose", { x: [1, 2, 4], w: [2, 2, 4], attributes: { auto_pad } });
    await check("ConvTranspose", { x: [1, 1, 3, 4], w: [1, 2, 2, 5], attributes: { auto_pad, strides: [3, 2] } });
  });

  test.each(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])("output_shape, %s", async (auto_pad) => {
    const attributes = { auto_pad, strides: [2], output_shape: [8] };
    await check("ConvTranspose", { x: [1, 2, 4], w: [2, 2, 4], attributes }, { symbolic: [] });
    await check("ConvTranspose", { x: [1, 2, 4], w: [2, 2, 3], attributes }, { symbolic: [] });
  });

  test("output_shape of an input whose size is not known is refused", () => {
    const g = createBuilder();
    const [x, w] = [g.input("x", "float32", [1, 2, "n"]), g.input("w", "float32", [2, 2, 3])];
    const [y] = g.op("ConvTranspose", [x, w], { strides: [2], output_shape: [8] });
    const dY = g.input("dY", "float32", y!.shape);
    expect(() => differentiate(g, [{ value: y!, gradient: dY }], [x])).toThrow(
      expect.objectContaining({ code: "DYNAMIC_PADS" }),
    );
  });

  test("bias, a frozen input each", async () => {
    const f = layer("ConvTranspose", { x: [], w: [0, 0, 3], attributes: { strides: [2] } });
    const [x, w, b] = [{ dims: [2, 3, 4] }, { dims: [3, 4, 3] }, { dims: [4] }] as const;
    await checkGradient(f, [x, w, b], { opset: 11 });
    await checkGradient(f, [{ ...x, frozen: true }, w, b]);
    await checkGradient(f, [x, { ...w, frozen: true }, { ...b, frozen: true }]);
  });
});
