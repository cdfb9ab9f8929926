import { describe, expect, test } from "vitest";
import type { Adapter } from "../adapters/adapter.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { findSites } from "../adapters/sites.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { prepareModel } from "./lower-model.ts";

const random = createRandom(5);
const normal = (n: number): Float32Array => random.fillNormal(new Float32Array(n), 0, 1);
const codes = Array.from({ length: 6 * 2 * 3 * 3 }, () => random.integer(256));
const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2], group: 2 };
const [SCALE, ZERO] = [Math.fround(0.013), 117];

interface Form {
  readonly bias: boolean;
  /** Target of the Reshape of the bias. */
  readonly target?: readonly number[];
  readonly zeroPoint?: boolean;
  readonly shown?: boolean;
}

/** A grouped convolution as quantize_dynamic writes it. */
function file({ bias, target = [1, -1, 1, 1], zeroPoint = true, shown = false }: Form): Model {
  const g = createBuilder(14);
  const x = g.input("x", "float32", ["batch", 4, "height", "width"]);
  const [q, scale, zero] = g.op("DynamicQuantizeLinear", [x], {}, { count: 3 }) as [Value, Value, Value];
  const weight = g.initializer("stem.weight_quantized", tensorFrom("uint8", [6, 2, 3, 3], codes));
  const scaleOf = g.initializer("stem.weight_scale", tensorFrom("float32", [], [SCALE]));
  const zeroOf = zeroPoint ? g.initializer("stem.weight_zero_point", tensorFrom("uint8", [], [ZERO])) : null;
  const [product] = g.op("ConvInteger", [q, weight, zero, zeroOf], attributes, { name: "/stem/Conv_quant" });
  if (shown) g.output(product as Value, "shown");
  const [both] = g.op("Mul", [scale, scaleOf], {}, { name: "/stem/Conv_quant_scales_mul" });
  const [y] = g.op("Mul", [g.cast(product as Value, "float32"), both as Value], {}, { name: "/stem/Conv_scaled" });
  g.output(bias ? g.add(y as Value, biasIn(g, target)) : (y as Value), "y");
  return toModel(g.finish(), 14);
}

function biasIn(g: Builder, target: readonly number[]): Value {
  const bias = g.initializer("stem.bias", tensorFrom("float32", [6], [1, -2, 3, -4, 5, -6]));
  const shape = g.initializer("stem.bias_shape", tensorFrom("int64", [target.length], [...target]));
  return g.op("Reshape", [bias, shape])[0] as Value;
}

const dims = [2, 4, 7, 6];
const feeds: Feeds = {
  x: { type: "float32", dims, data: normal(2 * 4 * 7 * 6) },
  dy: { type: "float32", dims: [2, 6, 4, 3], data: normal(2 * 6 * 4 * 3) },
};

/** y, and the gradient of x for a given one of y. */
async function run(model: Model) {
  const g = importGraph(model.graph, 14);
  const y = g.value("y");
  g.output(y, "out");
  const dy = g.input("dy", "float32", y.shape);
  g.output(differentiate(g, [{ value: y, gradient: dy }], [g.value("x")])[0] as Value, "dx");
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish(), g.opset)), { threads: 1 });
  const { out, dx } = await session.run(feeds);
  await session.close();
  return { y: out?.data as Float32Array, dx: dx?.data as Float32Array };
}

/** The convolution in float32 over the dequantised weight. */
function plain(): Model {
  const g = createBuilder(14);
  const x = g.input("x", "float32", ["batch", 4, "height", "width"]);
  const values = codes.map((code) => (code - ZERO) * SCALE);
  const weight = g.initializer("stem.weight", tensorFrom("float32", [6, 2, 3, 3], values));
  g.output(g.op("Conv", [x, weight], attributes)[0] as Value, "y");
  return toModel(g.finish(), 14);
}

const own = async (model: Model): Promise<Float32Array> => {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { y } = await session.run({ x: feeds["x"]! });
  await session.close();
  return y?.data as Float32Array;
};

const close = (found: Float32Array, expected: Float32Array, tolerance: number): void => {
  expect(found).toHaveLength(expected.length);
  const largest = expected.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  for (const [i, v] of expected.entries()) expect(Math.abs(found[i]! - v)).toBeLessThan(tolerance * largest);
};

describe("integer convolutions", () => {
  test.each<Form>([{ bias: true }, { bias: true, target: [1, 6, 1, 1] }, { bias: false }])(
    "%j: the file's own outputs, gradients straight through the rounding",
    async (form) => {
      const model = file(form);
      const { y, dx } = await run(prepareModel(model));
      close(y, await own(model), 1e-6);
      close(dx, (await run(plain())).dx, 1e-5);
      expect(findSites(model).map((s) => [s.name, s.kind, s.weightShape, s.hasBias, s.packed?.form])).toEqual([
        ["stem", "conv", [6, 2, 3, 3], false, "ConvInteger"],
      ]);
    },
  );

  test("without a zero point", async () => {
    const model = file({ bias: true, zeroPoint: false });
    expect((await run(prepareModel(model))).y).toEqual(await own(model));
  });

  test("a product that something else reads is no site, and gradients go straight through it as well", async () => {
    const model = file({ bias: false, shown: true });
    expect(findSites(model)).toEqual([]);
    close((await run(prepareModel(model))).dx, (await run(plain())).dx, 1e-5);
  });

  test("an adapter merged into it: one Conv over a float weight, in the place of the integer one", async () => {
    const model = file({ bias: true });
    const [site] = findSites(model);
    const data = new Float32Array(6 * 2 * 3 * 3);
    const adapter: Adapter = {
      type: "FULL",
      config: { targetModules: ["stem"] },
      tensors: new Map([["stem.weight", { dims: site!.weightShape, data }]]),
    };
    const merged = mergeAdapter(model, adapter);
    expect(
      merged.graph.nodes
        .map((n) => n.op)
        .filter((op) => op !== "Identity")
        .sort(),
    ).toEqual(["Add", "Conv", "Reshape"]);
    expect([...(await own(merged))].slice(0, 24)).toEqual(Array.from({ length: 24 }, (_, i) => (i < 12 ? 1 : -2)));
  });
});
