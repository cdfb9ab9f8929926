import { describe, test } from "vitest";
import { type CheckedFunction, type CheckedInput, checkGradient } from "../testing/check-gradient.ts";
import type { GradientRule } from "./rule.ts";
import { gradientTable } from "./table.ts";

const x: CheckedInput = {
  dims: [1, 4, 4, 4],
  data: Array.from({ length: 64 }, (_, i) => (((i * 37) % 64) - 31.5) / 16),
};
const weight: CheckedInput = { dims: [4, 4, 2, 2] };
const vector: CheckedInput = { dims: [4], range: [0.5, 1.5] };
const windows = { kernel_shape: [2, 2], strides: [2, 2] };

const node =
  (op: string, attributes = {}): CheckedFunction =>
  (g, v) =>
    g.op(op, v, attributes)[0]!;

const scaled: CheckedFunction = (g, [v]) => {
  const scales = g.constant("float32", [1, 1, 2, 1.5]);
  return g.op("Resize", g.opset === 10 ? [v!, scales] : [v!, g.constant("float32", []), scales])[0]!;
};

/** Every spatial rule with what it is tried on in the first and the last opset it claims. */
const cases: Readonly<Record<string, readonly [f: CheckedFunction, inputs: readonly CheckedInput[]]>> = {
  Conv: [node("Conv", { kernel_shape: [2, 2], strides: [2, 1], pads: [1, 0, 0, 1] }), [x, weight]],
  ConvTranspose: [node("ConvTranspose", { kernel_shape: [2, 2], strides: [2, 1] }), [x, weight]],
  MaxPool: [node("MaxPool", windows), [x]],
  AveragePool: [node("AveragePool", { ...windows, pads: [1, 1, 0, 0] }), [x]],
  LpPool: [node("LpPool", windows), [x]],
  GlobalAveragePool: [node("GlobalAveragePool"), [x]],
  GlobalMaxPool: [node("GlobalMaxPool"), [x]],
  GlobalLpPool: [node("GlobalLpPool"), [x]],
  Resize: [scaled, [x]],
  GridSample: [(g, v) => g.gridSample(v[0]!, v[1]!), [x, { dims: [1, 1, 2, 2], data: [-0.4, 0.3, 0.62, -0.1] }]],
  DepthToSpace: [node("DepthToSpace", { blocksize: 2 }), [x]],
  SpaceToDepth: [node("SpaceToDepth", { blocksize: 2 }), [x]],
  MeanVarianceNormalization: [node("MeanVarianceNormalization"), [x]],
  BatchNormalization: [
    node("BatchNormalization"),
    [x, vector, vector, { ...vector, frozen: true }, { ...vector, frozen: true }],
  ],
};

describe.each(Object.entries(cases))("%s", (op, [f, inputs]) => {
  const rule: GradientRule = gradientTable[op as "Conv"];
  const [from, to] = "none" in rule ? [0, 0] : rule.opsets;
  // Below 7 ONNX Runtime promises nothing.
  test.each([Math.max(from, 7), to])("opset %i", (opset) =>
    checkGradient(f, inputs, { opset, symbolic: ["distinct"], step: 2e-3, tolerance: 5e-3 }),
  );
});
