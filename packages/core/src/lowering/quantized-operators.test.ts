import { expect, test } from "vitest";
import { findSites } from "../adapters/sites.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import type { Attribute, Model, Node, TensorData } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { randomFloats } from "../quantization/testing/packed-forms.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { lowerModel } from "./lower-model.ts";

const ints = (seed: number, count: number, low: number, high: number): number[] =>
  [...randomFloats(count, seed)].map((v) => Math.round(low + ((v + 1) / 2) * (high - low)));
const scalar = (value: number): TensorData => tensorFrom("float32", [], [value]);
const bytes = (dims: number[], seed: number): TensorData =>
  tensorFrom(
    "uint8",
    dims,
    ints(
      seed,
      dims.reduce((a, b) => a * b, 1),
      0,
      255,
    ),
  );
const signed = (dims: number[], seed: number): TensorData =>
  tensorFrom(
    "int8",
    dims,
    ints(
      seed,
      dims.reduce((a, b) => a * b, 1),
      -127,
      127,
    ),
  );
const zero = (value: number): TensorData => tensorFrom("uint8", [], [value]);
const perOutput = (n: number): TensorData =>
  tensorFrom(
    "float32",
    [n],
    Array.from({ length: n }, (_, i) => 0.01 + 0.001 * i),
  );

/** x in float, rounded to uint8, through the operator, and back to float. Reads the weight `w` where it has one. */
function model(
  op: string,
  domain: string,
  xDims: number[],
  inputs: (TensorData | null)[],
  attributes: Node["attributes"],
  isFloat: boolean,
): Model {
  const initializers = new Map<string, TensorData>([
    ["x.scale", scalar(0.02)],
    ["x.zero", zero(128)],
  ]);
  const names = inputs.map((tensor, i) => {
    if (tensor === null) return "";
    initializers.set(`in${i}`, tensor);
    return `in${i}`;
  });
  const node = (name: string, o: string, d: string, ins: string[], out: string, a: Node["attributes"] = {}): Node => ({
    name,
    op: o,
    domain: d,
    inputs: ins,
    outputs: [out],
    attributes: a,
    metadata: {},
  });
  const nodes = [
    node("q", "QuantizeLinear", "", ["x", "x.scale", "x.zero"], "xq"),
    node(
      `/dense/${/Conv|Gemm|MatMul|Add|Mul/.exec(op)?.[0] ?? "Sigmoid"}_quant`,
      op,
      domain,
      op === "MatMulIntegerToFloat"
        ? ["xq", names[0]!, "x.scale", names[1]!, "x.zero", names[2]!, names[3]!]
        : ["xq", "x.scale", "x.zero", ...names],
      isFloat ? "y" : "yq",
      attributes,
    ),
    ...(isFloat
      ? []
      : [
          node(
            "d",
            "DequantizeLinear",
            "",
            ["yq", names.at(op === "QLinearConv" ? -3 : -2)!, names.at(op === "QLinearConv" ? -2 : -1)!],
            "y",
          ),
        ]),
  ];
  const float = (name: string, dims: (number | string)[]) => ({ name, type: "float32" as const, shape: dims });
  const rank = xDims.length;
  return toModel(
    {
      name: "g",
      nodes,
      inputs: [float("x", xDims)],
      outputs: [
        float(
          "y",
          Array.from({ length: rank }, (_, i) => `y${i}`),
        ),
      ],
      initializers,
      values: new Map(),
    },
    17,
  );
}

const int = (value: number): Attribute => ({ type: "int", value });
const ms = "com.microsoft";
const w = (dims: number[]) => signed(dims, 3);
const signedZero = (n?: number): TensorData =>
  tensorFrom("int8", n === undefined ? [] : [n], new Array(n ?? 1).fill(0));
const bias = tensorFrom("int32", [6], ints(5, 6, -500, 500));
const cases: Record<string, { m: Model; step: number; weight: boolean }> = {
  QLinearMatMul: {
    m: model(
      "QLinearMatMul",
      "",
      [2, 3, 8],
      [w([8, 6]), scalar(0.01), signedZero(), scalar(0.1), zero(120)],
      {},
      false,
    ),
    step: 0.1,
    weight: true,
  },
  "QLinearConv, a scale per output and a bias": {
    m: model(
      "QLinearConv",
      "",
      [1, 4, 5, 5],
      [w([6, 4, 3, 3]), perOutput(6), signedZero(6), scalar(0.1), zero(120), bias],
      { pads: { type: "ints", value: [1, 1, 1, 1] } },
      false,
    ),
    step: 0.1,
    weight: true,
  },
  QLinearAdd: {
    m: model("QLinearAdd", ms, [2, 8], [bytes([8], 4), scalar(0.01), zero(100), scalar(0.03), zero(128)], {}, false),
    step: 0.03,
    weight: false,
  },
  QLinearMul: {
    m: model("QLinearMul", ms, [2, 8], [bytes([8], 4), scalar(0.01), zero(100), scalar(0.02), zero(128)], {}, false),
    step: 0.02,
    weight: false,
  },
  QLinearSigmoid: {
    m: model("QLinearSigmoid", ms, [2, 8], [scalar(1 / 256), zero(0)], {}, false),
    step: 1 / 256,
    weight: false,
  },
  "QGemm with transB and a bias": {
    m: model(
      "QGemm",
      ms,
      [3, 8],
      [w([6, 8]), perOutput(6), signedZero(6), bias, scalar(0.1), zero(120)],
      { transB: int(1) },
      false,
    ),
    step: 0.1,
    weight: true,
  },
  "MatMulIntegerToFloat with a bias": {
    m: model(
      "MatMulIntegerToFloat",
      ms,
      [3, 8],
      [w([8, 6]), perOutput(6), signedZero(6), tensorFrom("float32", [6], randomFloats(6, 7))],
      {},
      true,
    ),
    step: 1e-4,
    weight: true,
  },
};

async function run(m: Model): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
  const dims = m.graph.inputs[0]!.shape.map(Number);
  const { y } = await session.run({
    x: {
      type: "float32",
      dims,
      data: randomFloats(
        dims.reduce((a, b) => a * b, 1),
        9,
        2,
      ),
    },
  });
  await session.close();
  return y?.data as Float32Array;
}

test.each(Object.entries(cases))("%s", async (_, { m, step, weight }) => {
  const lowered = lowerModel(m);
  expect(lowered.graph.nodes.some((node) => /^Q(Linear|Gemm)|IntegerToFloat/.test(node.op))).toBe(false);
  const [found, expected] = [await run(lowered), await run(m)];
  expect(new Set(expected).size).toBeGreaterThan(3);
  for (const [i, value] of found.entries()) expect(Math.abs(value - expected[i]!)).toBeLessThan(1.01 * step);
  const sites = findSites(m);
  expect(sites.map((site) => [site.name, site.packed?.form])).toEqual(weight ? [["dense", "DequantizeLinear"]] : []);
  const g = importGraph(lowered.graph, 17);
  const y = g.value("y");
  const [dX] = differentiate(
    g,
    [
      {
        value: g.reduceSum(
          y,
          y.shape.map((__, i) => i),
          false,
        ),
      },
    ],
    [g.value("x")],
  );
  expect(dX?.shape).toEqual(m.graph.inputs[0]!.shape);
});
