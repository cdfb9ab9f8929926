import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import type { Builder } from "../graph/builder.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { checkGradient, testRandom } from "../testing/check-gradient.ts";

test("repeated indices add up exactly and reproducibly with several threads", async () => {
  // ScatterND(reduction = add) loses updates here: threads write to the same row.
  const [rows, count, width] = [100, 20480, 64];
  const g = createBuilder();
  const table = g.input("table", "float32", [rows, width]);
  const ids = g.input("ids", "int64", ["n"]);
  const y = g.gather(table, ids);
  const dY = g.input("dY", "float32", y.shape);
  g.output(differentiate(g, [{ value: y, gradient: dY }], [table])[0]!, "dTable");
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish({ dropUnusedInputs: true }), g.opset)));
  const random = testRandom(3);
  const feeds = {
    ids: {
      type: "int64" as const,
      dims: [count],
      data: BigInt64Array.from({ length: count }, () => BigInt(Math.floor(random() * rows))),
    },
    dY: { type: "float32" as const, dims: [count, width], data: new Float32Array(count * width).fill(1) },
  };
  for (let i = 0; i < 10; i++) {
    const { dTable } = await session.run(feeds);
    expect((dTable!.data as Float32Array).reduce((a, b) => a + b, 0)).toBe(count * width);
  }
  await session.close();
});

describe.each([11, 21])("Gather, opset %i", (opset) => {
  test.each([
    { dims: [5, 3], ids: [2, 3], data: [0, 4, 2, 2, -1, 2], axis: 0 }, // an embedding table, ids repeated
    { dims: [3, 4, 2], ids: [3], data: [3, 0, 3], axis: 1 },
    { dims: [3, 4, 5], ids: [2, 2], data: [1, 1, -5, 0], axis: -1 },
    { dims: [6], ids: [4], data: [5, 5, 5, 0], axis: 0 },
    { dims: [70, 2], ids: [2, 3], data: [69, 3, 3, -1, 0, 3], axis: 0 }, // more rows than one-hot products serve
    { dims: [2, 70, 3], ids: [2, 2], data: [69, 3, 3, -70], axis: 1 },
    { dims: [2, 70], ids: [], data: [69], axis: -1 },
    { dims: [3, 2], ids: [], data: [1], axis: 0 },
    { dims: [3, 2], ids: [], data: [-1], axis: 1 },
  ])("$dims at $ids of axis $axis", ({ dims, ids, data, axis }) =>
    checkGradient(
      (g, [x, i]) => {
        const y = g.gather(x!, i!, axis);
        return g.mul(y, y);
      },
      [{ dims }, { dims: ids, type: "int64", data }],
      { opset },
    ),
  );
  test.each([
    { indices: [2, 0, 3, 1], scatters: false },
    { indices: [2, 0, 3, 3], scatters: true },
    { indices: [2, 0, -1, 1], scatters: true },
    { indices: [2, 0, 3], scatters: true },
  ])("constant indices $indices", async ({ indices, scatters }) => {
    const build = (g: Builder, x: Value): Value => {
      const y = g.gather(x, g.constant("int64", indices), 1);
      return g.mul(y, y);
    };
    await checkGradient((g, [x]) => build(g, x!), [{ dims: [3, 4, 2] }], { opset });
    const g = createBuilder(opset);
    const x = g.input("x", "float32", [3, 4, 2]);
    const y = build(g, x);
    g.output(differentiate(g, [{ value: y, gradient: g.input("dY", "float32", y.shape) }], [x])[0]!, "dX");
    const ops = toModel(g.finish(), opset).graph.nodes.map((node) => node.op);
    expect(ops.filter((op) => op === "Gather")).toHaveLength(scatters ? 1 : 2);
  });
  test.each([0, 2, -1, -3, [1], [-2]])("one constant index %j (a CLS token)", (index) =>
    checkGradient(
      (g, [x]) => {
        const y = g.gather(x!, g.constant("int64", index), 1);
        return g.mul(y, y);
      },
      [{ dims: [2, 3, 4] }],
      { opset },
    ),
  );
});

const squared = (g: Builder, x: Value): Value => g.mul(x, x);
const ids = (dims: number[], data: number[]) => ({ dims, type: "int64" as const, data });

describe.each([11, 21])("GatherElements, opset %i", (opset) => {
  test.each([
    { dims: [3, 2], index: ids([4, 2], [0, 1, 2, 2, -1, 0, 0, 0]), axis: 0 },
    { dims: [2, 5], index: ids([2, 1], [4, 0]), axis: 1 },
    { dims: [2, 3, 4], index: ids([2, 2, 4], [0, 1, 2, 0, 2, 2, 1, 1, 0, 0, 0, 0, 1, 2, 1, -1]), axis: -2 },
    { dims: [3, 4], index: ids([2, 2], [1, 1, 3, 0]), axis: 1 }, // fewer rows than the data
  ])("$dims at $index.dims of axis $axis", ({ dims, index, axis }) =>
    checkGradient((g, [x, i]) => squared(g, g.gatherElements(x!, i!, axis)), [{ dims }, index], { opset }),
  );
});

describe("GatherND", () => {
  test.each([
    { dims: [3, 4], index: ids([2, 2], [0, 3, 2, 1]), batch: 0 },
    { dims: [3, 4], index: ids([4, 1], [0, -1, 2, 0]), batch: 0 },
    { dims: [2, 3, 2], index: ids([2, 2, 2], [0, 1, 0, 1, 1, -3, -1, 2]), batch: 0 },
    { dims: [2, 4, 3], index: ids([2, 1], [3, 0]), batch: 1 },
    { dims: [2, 4, 3], index: ids([2, 3, 1], [3, 0, 3, -1, 1, 1]), batch: 1 },
    { dims: [3], index: ids([1], [2]), batch: 0 },
  ])("$dims at $index.dims, $batch batch axes", ({ dims, index, batch }) =>
    checkGradient((g, [x, i]) => squared(g, g.gatherND(x!, i!, batch)), [{ dims }, { ...index, constant: false }], {
      symbolic: [],
    }),
  );
  test("symbolic data", () =>
    checkGradient(
      (g, [x]) => squared(g, g.gatherND(x!, g.initializer("i", tensorFrom("int64", [3, 1], [1, 0, 1])))),
      [{ dims: [2, 3] }],
    ));
  test("opset 11", () =>
    checkGradient((g, [x, i]) => squared(g, g.gatherND(x!, i!)), [{ dims: [3, 2] }, ids([4, 1], [0, 2, 2, 1])], {
      opset: 11,
      symbolic: [],
    }));
});

describe("scatters", () => {
  test.each(["none", "add"])("ScatterElements, reduction %s", (reduction) =>
    checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterElements(x!, i!, u!, 1, reduction)),
      [{ dims: [2, 4] }, ids([2, 2], [3, 0, 1, reduction === "add" ? 1 : 2]), { dims: [2, 2] }],
    ),
  );
  test.each(["none", "add"])("ScatterND, reduction %s", (reduction) =>
    checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterND(x!, i!, u!, reduction)),
      [{ dims: [4, 3] }, { ...ids([2, 1], [3, 0]), fixedAxes: [1] }, { dims: [2, 3] }],
      { symbolic: ["shared"] },
    ),
  );
  test.each([0, 2])("input %i frozen, opset 11", (frozen) =>
    checkGradient(
      (g, [x, i, u]) => [squared(g, g.scatterElements(x!, i!, u!, 0)), squared(g, g.scatterND(x!, i!, u!))],
      [{ dims: [4, 1], frozen: frozen === 0 }, ids([2, 1], [3, 0]), { dims: [2, 1], frozen: frozen === 2 }],
      { opset: 11, symbolic: [] },
    ),
  );
  test.each(["max", "min", "mul"])("reduction %s with repeated indices", async (reduction) => {
    const data = [0.9, -0.7, 0.3, -0.2, 0.6, -0.5, 0.8, 0.1];
    await checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterElements(x!, i!, u!, -1, reduction)),
      [
        { dims: [2, 4], data },
        ids([2, 3], [3, 0, 3, 1, 1, 2]),
        { dims: [2, 3], data: [0.5, -0.4, 0.7, 0.2, -0.9, 0.35] },
      ],
      { opset: 18 },
    );
    await checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterND(x!, i!, u!, reduction)),
      [
        { dims: [4, 2], data, fixedAxes: [1] },
        { ...ids([2, 1], [3, 1]), fixedAxes: [1] },
        { dims: [2, 2], data: [0.5, -0.4, 0.7, 0.2], fixedAxes: [1] },
      ],
      { symbolic: ["shared"] },
    );
    await checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterND(x!, i!, u!, reduction)),
      [{ dims: [2, 4], data, frozen: true }, ids([2, 2], [1, 3, 0, 2]), { dims: [2], data: [0.5, -0.4] }],
      { symbolic: [] },
    );
  });
  test("a product with zeros among data and updates", () =>
    checkGradient(
      (g, [x, i, u]) => squared(g, g.scatterElements(x!, i!, u!, 0, "mul")),
      [{ dims: [3], data: [0.5, 0, 2] }, ids([5], [0, 0, 1, 2, 2]), { dims: [5], data: [0, 0.7, 0.3, 0, 0] }],
    ));
});

describe("OneHot", () => {
  test.each([-1, 0])("axis %i", (axis) =>
    checkGradient(
      (g, [i, values]) => g.op("OneHot", [i!, g.ints([4]), values!], { axis })[0]!,
      [ids([2, 3], [0, 3, 1, 2, -1, 1]), { dims: [2], fixedAxes: [0] }],
    ),
  );
});

describe("TopK", () => {
  const data = [0.1, 0.9, -0.5, 0.4, -0.8, 0.7, 0.2, -0.1, 0.5, -0.3, 0.8, 0];
  test.each([
    { axis: -1, largest: 1 },
    { axis: 0, largest: 0 },
  ])("%j", (attributes) =>
    checkGradient(
      (g, [x]) => squared(g, g.op("TopK", [x!, g.ints([2])], attributes, { count: 2 })[0]!),
      [{ dims: [3, 4], data }],
    ),
  );
});

test("operators with integer or constant results stop the walk", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["n", 3]);
  const hot = g.oneHot(g.input("i", "int64", ["n"]), 3);
  const zeros = g.filled(x.shape, 0);
  const y = g.reduceSum(g.add(g.mul(x, hot), zeros), [0, 1], false);
  const [dX] = differentiate(g, [{ value: y }], [x]);
  expect(dX!.shape).toEqual(["n", 3]);
});
