import { describe, expect, test } from "vitest";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { checkShapes } from "../testing/check-shapes.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { type Builder, createBuilder } from "./builder.ts";

async function run(build: (g: Builder) => Value, opset = 21): Promise<{ dims: readonly number[]; data: number[] }> {
  const g = createBuilder(opset);
  g.output(build(g), "y");
  const { y } = await runBuilder(g, {});
  return { dims: y!.dims, data: Array.from(y!.data as Float32Array) };
}

/** 1, 2, 3, ... */
const counted = (g: Builder, dims: readonly number[]): Value =>
  g.constant(
    "float32",
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i + 1),
    dims,
  );

describe("convolutions and pools", () => {
  test("options reach the operator", async () => {
    const x = { dims: [1, 4, 7, 8] };
    const strided = { strides: [2, 1], pads: [1, 0, 1, 2], groups: 2 };
    await checkShapes((g, [v, w]) => g.conv(v!, w!, null, strided), [x, { dims: [6, 2, 3, 2] }]);
    await checkShapes(
      (g, [v, w]) => g.conv(v!, w!, null, { pads: "SAME_UPPER", strides: 3 }),
      [x, { dims: [2, 4, 3, 3] }],
    );
    await checkShapes(
      (g, [v, w, b]) => g.convTranspose(v!, w!, b!, { strides: 2, outputPadding: 1, groups: 2 }),
      [x, { dims: [4, 3, 3, 3] }, { dims: [6] }],
    );
    await checkShapes((g, [v]) => g.maxPool(v!, 2, { strides: 2, ceilMode: true }), [x]);
    await checkShapes((g, [v]) => g.averagePool(v!, [3, 2], { pads: 1, strides: 2 }), [x], 11);
    await checkShapes((g, [v]) => g.globalAveragePool(v!), [x]);
  });
  test("by hand", async () => {
    const ones = (g: Builder) =>
      g.conv(counted(g, [1, 1, 4]), g.constant("float32", [1, 10], [1, 1, 2]), g.constant("float32", [1000]));
    expect((await run(ones)).data).toEqual([1021, 1032, 1043]);
    const counting = { pads: 1, strides: 2 } as const;
    expect((await run((g) => g.averagePool(counted(g, [1, 1, 4]), 2, counting))).data).toEqual([1, 2.5, 4]);
    const padded = { ...counting, countIncludePad: true };
    expect((await run((g) => g.averagePool(counted(g, [1, 1, 4]), 2, padded))).data).toEqual([0.5, 2.5, 2]);
    expect((await run((g) => g.maxPool(counted(g, [1, 1, 5]), 2, { dilations: 2 }))).data).toEqual([3, 4, 5]);
  });
});

describe("resize", () => {
  test("nearest repeats, linear interpolates between the middles of pixels", async () => {
    expect(await run((g) => g.resize(counted(g, [1, 1, 2]), { scales: 2 }))).toEqual({
      dims: [1, 1, 4],
      data: [1, 1, 2, 2],
    });
    const linear = await run((g) => g.resize(counted(g, [1, 1, 1, 2]), { mode: "linear", scales: [1, 2] }));
    expect(linear.data).toEqual([1, 1.25, 1.75, 2]);
  });
  test("to the size of another value", () =>
    checkShapes(
      (g, [x, y]) => g.resize(x!, { mode: "linear", sizes: y!.shape.slice(2) }),
      [{ dims: [1, 2, 3, 4] }, { dims: [1, 5, 6, 7] }],
    ));
  test("needs sizes or scales", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [1, 1, 4]);
    expect(() => g.resize(x, {})).toThrow(expect.objectContaining({ code: "OPTION_INVALID" }));
    expect(() => g.resize(x, { scales: 2, sizes: [3] })).toThrow(/both or neither/);
  });
});

test("gridSample and pixel shuffle", async () => {
  const middle = (g: Builder) => g.gridSample(counted(g, [1, 1, 2, 2]), g.constant("float32", [0, 0], [1, 1, 1, 2]));
  expect((await run(middle)).data).toEqual([2.5]);
  expect((await run(middle, 16)).data).toEqual([2.5]);
  expect((await run((g) => g.depthToSpace(counted(g, [1, 4, 1, 1]), 2))).data).toEqual([1, 2, 3, 4]);
  expect((await run((g) => g.spaceToDepth(counted(g, [1, 1, 2, 2]), 2))).data).toEqual([1, 2, 3, 4]);
});

describe("batchNormTraining", () => {
  test("gives the batch's statistics, which normalise it", async () => {
    const parts = (which: "y" | "mean" | "variance") =>
      run(
        (g) =>
          g.batchNormTraining(counted(g, [2, 2, 2]), g.constant("float32", [1, 2]), g.constant("float32", [0, 5]), 0)[
            which
          ],
      );
    expect((await parts("mean")).data).toEqual([3.5, 5.5]); // of 1, 2, 5, 6 and of 3, 4, 7, 8
    expect((await parts("variance")).data).toEqual([4.25, 4.25]);
    const { data } = await parts("y");
    expect(data[0]).toBeCloseTo(-2.5 / Math.sqrt(4.25), 5);
    expect(data[7]).toBeCloseTo((2 * 2.5) / Math.sqrt(4.25) + 5, 5);
  });
  test("gradients go through the statistics", () =>
    checkGradient(
      (g, [x, scale, bias]) => {
        const { y, mean, variance } = g.batchNormTraining(x!, scale!, bias!, 1e-3);
        return [y, mean, g.sqrt(variance)];
      },
      [{ dims: [3, 2, 5] }, { dims: [2] }, { dims: [2] }],
    ));
});
