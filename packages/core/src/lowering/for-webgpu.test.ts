import { describe, expect, test } from "vitest";
import { float } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { forWebGpu } from "./for-webgpu.ts";
import { compareModels } from "./testing/check-lowering.ts";

type Shape = readonly (number | string)[];

/** A model of one node over float32 inputs; batch axes are symbols where `shapes` says so. */
function modelOf(
  shapes: readonly Shape[],
  build: (g: ReturnType<typeof createBuilder>, inputs: Value[]) => readonly Value[],
): Model {
  const g = createBuilder();
  const inputs = shapes.map((shape, i) => g.input(`x${i}`, "float32", shape));
  build(g, inputs).forEach((y, i) => {
    g.output(y, `y${i}`);
  });
  return toModel(g.finish(), g.opset);
}

/** Both graphs on the CPU. Symbols are 3. */
async function compareRewritten(model: Model): Promise<string[]> {
  const rewritten = forWebGpu(model);
  expect(forWebGpu(rewritten)).toBe(rewritten);
  const random = testRandom(5);
  const feeds = new Map(
    model.graph.inputs.map(({ name, shape }) => {
      const dims = shape.map((d) => (typeof d === "number" ? d : 3));
      const count = dims.reduce((a, b) => a * b, 1);
      return [
        name,
        tensorFrom(
          "float32",
          dims,
          Array.from({ length: count }, () => 2 * random() - 1),
        ),
      ];
    }),
  );
  await compareModels(rewritten, feeds, model, feeds);
  return rewritten.graph.nodes.map(({ op }) => op);
}

const flags = [0, 1].flatMap((transA) => [0, 1].map((transB) => ({ transA, transB })));
const batchFlags = flags.flatMap((f) =>
  [0, 1].flatMap((transBatchA) => [0, 1].map((transBatchB) => ({ ...f, transBatchA, transBatchB }))),
);
const swapped = (shape: Shape, isSwapped: number): Shape =>
  isSwapped ? [...shape.slice(0, -2), shape.at(-1) as number, shape.at(-2) as number] : shape;
/** The rows' axis in front of those of the batch. */
const rowsFirst = (shape: Shape, isSet: number): Shape =>
  isSet ? [shape.at(-2) as number, ...shape.slice(0, -2), shape.at(-1) as number] : shape;

const fused =
  (alpha: number, attributes: Record<string, number>) => (g: ReturnType<typeof createBuilder>, x: Value[]) =>
    g.op("FusedMatMul", x, { ...attributes, alpha: float(alpha) }, { domain: "com.microsoft" });

describe("FusedMatMul", () => {
  test.each(flags)("of matrices, transA $transA, transB $transB", async (f) => {
    const shapes = [swapped(["m", 5], f.transA), swapped([5, 4], f.transB)];
    const ops = await compareRewritten(modelOf(shapes, fused(0.5, f)));
    expect(ops).not.toContain("FusedMatMul");
    expect(ops).not.toContain("Transpose");
  });
  test.each(flags)("of a batch and a matrix, transA $transA, transB $transB", async (f) => {
    const shapes = [swapped(["b", 2, 6, 5], f.transA), swapped([5, 4], f.transB)];
    const ops = await compareRewritten(modelOf(shapes, fused(1, f)));
    expect(ops.filter((op) => op === "Transpose")).toHaveLength(f.transA + f.transB);
    expect(ops).not.toContain("FusedMatMul");
    expect(ops).not.toContain("Mul");
  });
  test.each(batchFlags)("of batches, %o", async (f) => {
    const a = rowsFirst(swapped(["b", 2, 6, 5], f.transA), f.transBatchA);
    const b = rowsFirst(swapped(["b", 2, 5, 4], f.transB), f.transBatchB);
    expect(await compareRewritten(modelOf([a, b], fused(-2, f)))).not.toContain("FusedMatMul");
  });
  test("with a vector, whose flag counts for nothing", async () => {
    const vector = modelOf([[5], ["b", 5, 4]], fused(1, { transA: 1, transB: 0 }));
    expect(await compareRewritten(vector)).not.toContain("FusedMatMul");
  });
});

test.each([-1, 1])("the inverse that SimplifiedLayerNormalization hands out is computed, axis %i", async (axis) => {
  const build = (count: number) => (g: ReturnType<typeof createBuilder>, x: Value[]) =>
    g.op("SimplifiedLayerNormalization", x, { axis, epsilon: float(1e-3) }, { count });
  const shapes: Shape[] = [["b", 4, 8], axis === 1 ? [4, 8] : [8]];
  const ops = await compareRewritten(modelOf(shapes, build(2)));
  expect(ops).toEqual(expect.arrayContaining(["ReduceMean", "Sqrt", "SimplifiedLayerNormalization"]));
  const plain = modelOf(shapes, build(1));
  expect(forWebGpu(plain)).toBe(plain);
});

test("MaxPool says where its maxima are on the CPU", async () => {
  const attributes = { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] };
  const build =
    (count: number) =>
    (g: ReturnType<typeof createBuilder>, [x]: Value[]) =>
      g.op("MaxPool", [x as Value], attributes, { count });
  const ops = await compareRewritten(modelOf([["b", 2, 9, 8]], build(2)));
  expect(ops.filter((op) => op === "MaxPool")).toHaveLength(2);
  const plain = modelOf([["b", 2, 9, 8]], build(1));
  expect(forWebGpu(plain)).toBe(plain);
});

test.each([1, -1])("LogSoftmax is taken apart, axis %i", async (axis) => {
  const model = modelOf([["b", 5, 4]], (g, x) => g.op("LogSoftmax", [g.mul(x[0] as Value, 50)], { axis }));
  expect(await compareRewritten(model)).not.toContain("LogSoftmax");
});

test.each(["Sin", "Cos"])("%s is computed on the CPU, in float64", async (op) => {
  const ops = await compareRewritten(modelOf([["b", 5]], (g, x) => g.op(op, x)));
  expect(ops.filter((name) => name !== "Identity")).toEqual(["Cast", op, "Cast"]);
});
