import { expect, test } from "vitest";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Value } from "../onnx/ir.ts";
import { lowerModel } from "./lower-model.ts";
import { compareModels } from "./testing/check-lowering.ts";
import { type FusedInput, type FusedNode, fusedModel } from "./testing/fused-model.ts";

/** ONNX Runtime has these operators for CUDA and ROCm; on the CPU the definition is written out. */
async function compare(spec: FusedNode, define: (g: Builder, inputs: Value[]) => Value): Promise<void> {
  const fused = fusedModel(spec);
  const g = createBuilder(17);
  const inputs = spec.inputs.flatMap((input, i) =>
    input && !input.constant ? [g.input(`x${i}`, input.type ?? "float32", input.dims)] : [],
  );
  g.output(define(g, inputs), "y0");
  const lowered = lowerModel(fused.model);
  expect(lowered).not.toBe(fused.model);
  await compareModels(lowered, fused.tensors, toModel(g.finish(), 17), fused.tensors);
}

const x: FusedInput = { dims: [2, 3, 8], shape: ["batch", "tokens", 8] };

test("BiasAdd and BiasSplitGelu", async () => {
  await compare({ op: "BiasAdd", inputs: [x, { dims: [8] }, x], outputs: [{ rank: 3 }] }, (g, [a, b, c]) =>
    g.add(g.add(a!, b!), c!),
  );
  await compare({ op: "BiasSplitGelu", inputs: [x, { dims: [8] }], outputs: [{ rank: 3 }] }, (g, [a, b]) => {
    const [left, right] = g.split(g.add(a!, b!), [4, 4], 2);
    const gate = g.mul(g.mul(right!, 0.5), g.add(g.erf(g.mul(right!, Math.SQRT1_2)), 1));
    return g.mul(left!, gate);
  });
});

const scores: FusedInput = { dims: [2, 3, 4, 5], shape: ["batch", 3, "rows", 5] };

test.each([
  { axis: 3, inner: 1, bias: [2, 1, 1, 5] },
  { axis: 3, inner: 0, bias: [4, 5] },
  { axis: 3, inner: 1, bias: [2, 5] },
  { axis: 2, inner: 0, bias: [4, 5] },
  { axis: -1, inner: 0, bias: [5] },
])("BiasSoftmax %j", async ({ axis, inner, bias }) => {
  const attributes = { axis, is_inner_broadcast: inner };
  await compare(
    { op: "BiasSoftmax", inputs: [scores, { dims: bias }], attributes, outputs: [{ rank: 4 }] },
    (g, [a, b]) => {
      const aligned = inner && bias.length === 2 ? g.unsqueeze(b!, [1, 2]) : b!;
      const sum = g.add(a!, aligned);
      return axis === 2 ? g.reshape(g.softmax(g.reshape(sum, [2, 3, 20]), -1), [2, 3, 4, 5]) : g.softmax(sum, 3);
    },
  );
});

test("BiasDropout outside training is a sum that training can mask", async () => {
  const ratio: FusedInput = { dims: [], data: [0.25], constant: true };
  const spec: FusedNode = { op: "BiasDropout", inputs: [x, { dims: [8] }, x, ratio], outputs: [{ rank: 3 }] };
  await compare(spec, (g, [a, b, c]) => g.add(g.add(a!, b!), c!));
  const { nodes } = lowerModel(fusedModel(spec).model).graph;
  expect(nodes.map((n) => n.op)).toEqual(["Add", "Dropout", "Add"]);
  const training: FusedInput = { dims: [], data: [1], type: "bool", constant: true };
  const { model } = fusedModel({ ...spec, inputs: [...spec.inputs, training] });
  expect(() => lowerModel(model)).toThrow(/training mode/);
});
