import { describe, expect, test } from "vitest";
import type { AttributeInput } from "../../graph/attributes.ts";
import { createBuilder } from "../../graph/builder.ts";
import { type CheckedFunction, checkGradient } from "../../testing/check-gradient.ts";
import { checkShapes } from "../../testing/check-shapes.ts";
import { evaluateDim } from "../dims.ts";
import type { Node } from "../ir.ts";
import { paddingOf, windowsOf } from "./windows.ts";

type Attributes = Record<string, AttributeInput>;

const apply =
  (op: string, attributes: Attributes = {}, count = 1): CheckedFunction =>
  (g, inputs) =>
    g.op(op, inputs, attributes, { count });

const automatic = ["SAME_UPPER", "SAME_LOWER", "VALID"];

describe("Conv and ConvTranspose", () => {
  test.each<Attributes>([
    {},
    { strides: [2], pads: [1, 0] },
    { dilations: [3], pads: [2, 2] },
    { strides: [3], dilations: [2], pads: [0, 1] },
    ...automatic.flatMap((auto_pad) => [{ auto_pad }, { auto_pad, strides: [2] }, { auto_pad, strides: [4] }]),
  ])("%j", async (attributes) => {
    for (const n of [7, 8, 9]) {
      await checkShapes(apply("Conv", attributes), [{ dims: [2, 2, n] }, { dims: [3, 2, 3] }]);
      const transposed = { kernel_shape: [3], ...attributes };
      await checkShapes(apply("ConvTranspose", transposed), [{ dims: [2, 2, n] }, { dims: [2, 3, 3] }]);
    }
  });
  test("groups, several axes, output padding, output shape", async () => {
    await checkShapes(apply("Conv", { group: 2, strides: [2, 1, 1] }), [
      { dims: [1, 4, 5, 3, 4] },
      { dims: [6, 2, 2, 3, 2] },
    ]);
    const x = [{ dims: [1, 4, 3, 5] }, { dims: [4, 3, 2, 3] }];
    await checkShapes(apply("ConvTranspose", { group: 2, strides: [2, 3], output_padding: [1, 2] }), x);
    await checkShapes(apply("ConvTranspose", { strides: [2, 2], output_shape: [6, 10] }), x);
  });
  test("a weight of another rank is refused", () => {
    const g = createBuilder();
    const [x, w] = [g.input("x", "float32", [1, 2, 5]), g.input("w", "float32", [3, 2, 3, 3])];
    expect(() => g.op("Conv", [x, w])).toThrow(/the weight has rank 4, x has rank 3/);
  });
});

describe.each(["MaxPool", "AveragePool", "LpPool"])("%s", (op) => {
  const count = op === "MaxPool" ? 2 : 1;
  test.each([
    [1, 1, 1, 0, 0],
    [2, 2, 1, 0, 1],
    [3, 2, 1, 1, 1],
    [2, 3, 1, 0, 0],
    [2, 3, 1, 1, 1],
    [3, 2, 2, 2, 1],
    [2, 4, 1, 0, 1],
    [1, 3, 1, 0, 0],
  ])("kernel %i, stride %i, dilation %i, pads %i and %i", async (kernel, stride, dilation, head, tail) => {
    for (const n of [5, 6, 7, 8]) {
      for (const ceil_mode of [0, 1]) {
        const windows = { kernel_shape: [kernel], strides: [stride], dilations: [dilation], pads: [head, tail] };
        await checkShapes(apply(op, { ...windows, ceil_mode }, count), [{ dims: [2, 3, n] }], 22);
      }
    }
  });
  test.each(automatic)("%s", async (auto_pad) => {
    for (const [kernel, stride, dilation] of [
      [3, 2, 1],
      [2, 1, 1],
      [2, 3, 1],
      [3, 1, 2],
    ] as const) {
      const windows = { kernel_shape: [kernel, kernel], strides: [stride, 1], dilations: [dilation, 1] };
      await checkShapes(apply(op, { ...windows, auto_pad }), [{ dims: [1, 2, 8, 7] }], 22);
    }
  });
});

test("pools over all places", async () => {
  for (const op of ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]) {
    await checkShapes(apply(op), [{ dims: [2, 3, 4, 5] }]);
  }
});

describe("Resize", () => {
  test.each([
    [2, 0.5],
    [1.5, 3],
    [0.75, 1.7],
    [1, 2.375],
  ])("scales %d and %d", async (h, w) => {
    const scales = [1, 1, h, w];
    await checkShapes(
      (g, [x]) => g.op("Resize", [x!, null, g.constant("float32", scales)], { mode: "linear" }),
      [{ dims: [2, 3, 5, 7] }],
    );
    await checkShapes((g, [x]) => g.op("Resize", [x!, g.constant("float32", scales)]), [{ dims: [1, 2, 6, 5] }], 10);
    await checkShapes(
      (g, [x]) => g.op("Upsample", [x!, g.constant("float32", [1, 1, 2.5, 3])]),
      [{ dims: [1, 2, 6, 5] }],
      9,
    );
  });
  test("sizes, some axes, one scale for all", async () => {
    const sizes = (list: number[], attributes: Attributes): CheckedFunction => {
      return (g, [x]) => g.op("Resize", [x!, null, null, g.ints(list)], attributes);
    };
    await checkShapes(sizes([2, 3, 4, 9], {}), [{ dims: [2, 3, 5, 7] }]);
    await checkShapes(sizes([9, 4], { axes: [3, -2] }), [{ dims: [2, 3, 5, 7] }]);
    for (const keep_aspect_ratio_policy of ["not_larger", "not_smaller"]) {
      await checkShapes(sizes([9, 11], { axes: [2, 3], keep_aspect_ratio_policy }), [{ dims: [2, 3, 5, 7] }]);
    }
  });
  test("a symbol times a whole, half or quarter scale stays known", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["batch", 3, "h", "w"]);
    const [y] = g.op("Resize", [x, null, g.constant("float32", [1, 1, 2, 0.25])]);
    expect(y?.shape).toEqual(["batch", 3, "2*h", "[w//4]"]);
  });
});

test("GridSample, DepthToSpace, SpaceToDepth, MeanVarianceNormalization", async () => {
  await checkShapes(apply("GridSample"), [{ dims: [2, 3, 4, 5] }, { dims: [2, 6, 7, 2] }]);
  await checkShapes(apply("GridSample"), [{ dims: [1, 3, 4, 5, 2] }, { dims: [1, 2, 6, 7, 3] }]);
  await checkShapes(apply("DepthToSpace", { blocksize: 2 }), [{ dims: [1, 8, 3, 5] }]);
  await checkShapes(apply("SpaceToDepth", { blocksize: 3 }), [{ dims: [1, 2, 6, 9] }]);
  await checkShapes(apply("MeanVarianceNormalization"), [{ dims: [1, 2, 3, 4] }]);
});

test("SAME padding of a symbol equals that of its size", () => {
  const node = (auto_pad: string, stride: number): Node => ({
    name: "conv",
    op: "Conv",
    domain: "",
    inputs: [],
    outputs: [],
    attributes: { auto_pad: { type: "string", value: auto_pad }, strides: { type: "ints", value: [stride] } },
    metadata: {},
  });
  for (const auto_pad of ["SAME_UPPER", "SAME_LOWER"]) {
    for (const [kernel, stride] of [
      [3, 1],
      [3, 2],
      [2, 5],
      [4, 5],
      [1, 3],
      [5, 5],
    ] as const) {
      const windows = windowsOf(node(auto_pad, stride), [kernel]);
      const symbolic = paddingOf(windows, 0, "n");
      for (let n = 1; n < 14; n++) {
        const sizes = new Map([["n", n]]);
        const found = { head: evaluateDim(symbolic.head, sizes), tail: evaluateDim(symbolic.tail, sizes) };
        expect({ n, stride, ...found }).toEqual({ n, stride, ...paddingOf(windows, 0, n) });
      }
    }
  }
});

test("sizes behind quotients are computed at run time", () =>
  checkGradient(
    (g, [x]) => {
      const [y] = g.op("MaxPool", [x!], { kernel_shape: [2], strides: [2] });
      const { shape } = y!;
      return g.mul(g.expand(g.constant("float32", [2], [1, 1, 1]), shape), y!);
    },
    [{ dims: [2, 3, 7], data: Array.from({ length: 42 }, (_, i) => (i * 17) % 42) }],
  ));

describe("numbers that a file claims", () => {
  const refused = (op: string, dims: number[][], attributes: Attributes, scales?: number[]) => {
    const g = createBuilder();
    const inputs = dims.map((d, i) => g.input(`x${i}`, "float32", d));
    const more = scales ? [null, g.constant("float32", scales)] : [];
    return expect(() => g.op(op, [...inputs, ...more], attributes));
  };
  const conv = [
    [1, 2, 5],
    [3, 2, 3],
  ];
  test.each<Attributes>([
    { strides: [0] },
    { strides: [-1] },
    { strides: [1, 1] },
    { dilations: [2 ** 40] },
    { pads: [-1, 0] },
    { pads: [1] },
    { kernel_shape: [0] },
  ])("%j", (attributes) => {
    refused("Conv", conv, attributes).toThrow(expect.objectContaining({ code: "SHAPE_INFERENCE" }));
    refused("MaxPool", [[1, 2, 5]], { kernel_shape: [2], ...attributes }).toThrow(/should be 1 numbers of at least/);
  });
  test("groups, blocks and scales", () => {
    refused("ConvTranspose", conv, { group: 0 }).toThrow(/group is 0/);
    refused("DepthToSpace", [[1, 4, 2, 2]], { blocksize: 0 }).toThrow(/blocksize is 0/);
    for (const scale of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      refused("Resize", [[4]], {}, [scale]).toThrow(/a scale is/);
    }
  });
});
