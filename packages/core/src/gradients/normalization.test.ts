import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { float } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import { createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";

describe("LayerNormalization", () => {
  test.each([
    { dims: [2, 4], axis: -1 },
    { dims: [2, 3, 7], axis: 2 },
    { dims: [3, 2, 5], axis: 1 },
    { dims: [3, 2, 5], axis: -2 },
    { dims: [6], axis: 0 },
  ])("$dims from axis $axis", ({ dims, axis }) => {
    const own = dims.slice(axis < 0 ? axis + dims.length : axis);
    return checkGradient(
      (g, [x, w, b]) => g.op("LayerNormalization", [x!, w!, b!], { axis, epsilon: float(1e-5) }),
      [{ dims }, { dims: own }, { dims: own }],
    );
  });
  test("without bias, and each input frozen", async () => {
    await checkGradient((g, [x, w]) => g.layerNormalization(x!, w!, null, 1e-5), [{ dims: [2, 5] }, { dims: [5] }]);
    for (const frozen of [0, 1, 2]) {
      await checkGradient(
        (g, [x, w, b]) => g.layerNormalization(x!, w!, b!, 1e-5),
        [{ dims: [2, 3, 5] }, { dims: [5] }, { dims: [5] }].map((s, i) => ({ ...s, frozen: i === frozen })),
      );
    }
  });
  test("opset 11, where only ONNX Runtime knows it", () =>
    checkGradient(
      (g, [x, w, b]) => g.layerNormalization(x!, w!, b!, 1e-5),
      [{ dims: [2, 5] }, { dims: [5] }, { dims: [5] }],
      {
        opset: 11,
        symbolic: [],
      },
    ));
  test("does not cancel where the mean is far above the standard deviation", async () => {
    const x = [1000.5, 1001, 999.25, 1000];
    const g = createBuilder();
    const value = g.input("x", "float32", [1, 4]);
    const y = g.layerNormalization(value, g.constant("float32", [1, 1, 1, 1]), null, 1e-5);
    const dY = g.input("dY", "float32", [1, 4]);
    g.output(differentiate(g, [{ value: y, gradient: dY }], [value])[0]!, "dX");
    const d = [1, 0, -0.5, 0.25];
    const run = await runBuilder(g, {
      x: { type: "float32", dims: [1, 4], data: Float32Array.from(x) },
      dY: { type: "float32", dims: [1, 4], data: Float32Array.from(d) },
    });
    const mean = (v: number[]): number => v.reduce((a, b) => a + b, 0) / v.length;
    const centred = x.map((v) => v - mean(x));
    const inverse = 1 / Math.sqrt(mean(centred.map((v) => v * v)) + 1e-5);
    const hat = centred.map((v) => v * inverse);
    const dot = mean(hat.map((v, i) => v * d[i]!));
    const found = [...(run["dX"]!.data as Float32Array)];
    found.forEach((v, i) => {
      expect(v).toBeCloseTo(inverse * (d[i]! - mean(d) - hat[i]! * dot), 3);
    });
  });
});

describe("root-mean-square norms", () => {
  const shapes = [
    { dims: [2, 4], axis: -1 },
    { dims: [2, 3, 5], axis: -1 },
    { dims: [3, 2, 5], axis: 1 },
    { dims: [7], axis: 0 },
  ];
  const own = ({ dims, axis }: { dims: number[]; axis: number }): number[] =>
    dims.slice(axis < 0 ? axis + dims.length : axis);
  test.each(shapes)("RMSNormalization $dims from $axis", (s) =>
    checkGradient(
      (g, [x, w]) => g.op("RMSNormalization", [x!, w!], { axis: s.axis, epsilon: float(1e-5) }),
      [{ dims: s.dims }, { dims: own(s) }],
      { opset: 23 },
    ),
  );
  test.each(shapes)("SimplifiedLayerNormalization $dims from $axis", (s) =>
    checkGradient(
      (g, [x, w]) => g.op("SimplifiedLayerNormalization", [x!, w!], { axis: s.axis, epsilon: float(1e-5) }),
      [{ dims: s.dims }, { dims: own(s) }],
    ),
  );
  test.each([0, 1])("input %i frozen", (frozen) =>
    checkGradient(
      (g, [x, w]) => g.op("SimplifiedLayerNormalization", [x!, w!], { epsilon: float(1e-5) }),
      [
        { dims: [2, 3], frozen: frozen === 0 },
        { dims: [3], frozen: frozen === 1 },
      ],
    ),
  );
});

describe("Skip normalisations", () => {
  const microsoft = { domain: "com.microsoft" };
  const attributes = { epsilon: float(1e-5) };
  test.each([3, 4, 5])("SkipLayerNormalization with %i inputs, sum used and unused", async (count) => {
    const inputs = [{ dims: [2, 3, 4] }, { dims: [2, 3, 4] }, { dims: [4] }, { dims: [4] }, { dims: [4] }].slice(
      0,
      count,
    );
    await checkGradient((g, v) => g.op("SkipLayerNormalization", v, attributes, microsoft), inputs);
    await checkGradient((g, v) => {
      g.op("SkipLayerNormalization", v, attributes, { ...microsoft, outputs: ["y", "", "", "sum"] });
      return [g.value("y"), g.value("sum")];
    }, inputs);
  });
  test.each([3, 4])("SkipSimplifiedLayerNormalization with %i inputs, sum used and unused", async (count) => {
    const inputs = [{ dims: [2, 3, 4] }, { dims: [2, 3, 4] }, { dims: [4] }, { dims: [4] }].slice(0, count);
    await checkGradient((g, v) => g.op("SkipSimplifiedLayerNormalization", v, attributes, microsoft), inputs);
    await checkGradient((g, v) => {
      g.op("SkipSimplifiedLayerNormalization", v, attributes, { ...microsoft, outputs: ["y", "", "", "sum"] });
      return [g.value("y"), g.value("sum")];
    }, inputs);
  });
  test("the skip connection broadcasts, and each input frozen", async () => {
    const inputs = [{ dims: [2, 3, 4] }, { dims: [3, 4] }, { dims: [4] }, { dims: [4] }];
    const f = (g: Builder, v: Value[]) => g.op("SkipLayerNormalization", v, attributes, microsoft);
    await checkGradient(f, inputs, { symbolic: ["shared"] });
    for (const frozen of inputs.keys()) {
      await checkGradient(
        f,
        inputs.map((s, i) => ({ ...s, frozen: i === frozen })),
        { symbolic: ["shared"] },
      );
    }
  });
});
