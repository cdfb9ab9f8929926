import { describe, expect, test } from "vitest";
import { findSites } from "../adapters/sites.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import { applyInt8Plan } from "../int8/apply-plan.ts";
import { createInt8Plan, type Int8Plan } from "../int8/plan.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { prepareModel } from "./lower-model.ts";

const SIZE = 48;
const random = createRandom(8);
const normal = (n: number): Float32Array => random.fillNormal(new Float32Array(n), 0, 1);

interface Form {
  readonly type: "int8" | "uint8";
  readonly perColumn: boolean;
  readonly zeroPoints: boolean;
  readonly opset?: number;
}

/** Codes, scales and zero points of a weight [SIZE, SIZE], and the matrix they stand for. */
function weightOf({ type, perColumn, zeroPoints }: Form) {
  const low = type === "int8" ? -128 : 0;
  const codes = Array.from({ length: SIZE * SIZE }, () => low + random.integer(256));
  const count = perColumn ? SIZE : 1;
  const scales = Array.from({ length: count }, () => 0.002 + 0.0001 * random.integer(10));
  const zeros = Array.from({ length: count }, () => (zeroPoints ? low + 100 + random.integer(50) : 0));
  const matrix = codes.map(
    (q, i) => (q - zeros[perColumn ? i % SIZE : 0]!) * Math.fround(scales[perColumn ? i % SIZE : 0]!),
  );
  return { codes, scales, zeros, matrix };
}

/** Three layers on one quantised x, with bias, their sum through tanh: as a dynamically quantised file has q, k and v. */
function file(form: Form, change: (g: Builder, product: Value) => void = () => {}) {
  const g = createBuilder(form.opset ?? 17);
  const x = g.input("x", "float32", ["batch", "tokens", SIZE]);
  const [q, scale, zero] = g.op("DynamicQuantizeLinear", [x], {}, { count: 3 }) as [Value, Value, Value];
  const matrices: number[][] = [];
  const outputs = ["query", "key", "value"].map((name) => {
    const { codes, scales, zeros, matrix } = weightOf(form);
    matrices.push(matrix);
    const dims = form.perColumn ? [SIZE] : [];
    const path = `/layer/${name}/MatMul`;
    const weight = g.initializer(`${name}_quantized`, tensorFrom(form.type, [SIZE, SIZE], codes));
    const scalesOf = g.initializer(`${name}_scale`, tensorFrom("float32", dims, scales));
    const zerosOf = form.zeroPoints ? g.initializer(`${name}_zero_point`, tensorFrom(form.type, dims, zeros)) : null;
    const [product] = g.op("MatMulInteger", [q, weight, zero, zerosOf], {}, { name: `${path}_quant` });
    change(g, product!);
    const [both] = g.op("Mul", [scale, scalesOf], {}, { name: `${path}_quant_scales_mul` });
    const cast = g.cast(product!, "float32");
    const [scaled] = g.op("Mul", [cast, both!], {}, { name: `${path}_quant_output_scale_mul` });
    const bias = g.initializer(`layer.${name}.bias`, tensorFrom("float32", [SIZE], normal(SIZE)));
    return g.add(bias, scaled!);
  });
  g.output(g.tanh(outputs.reduce((a, b) => g.add(a, b))), "y");
  return { model: toModel(g.finish(), form.opset ?? 17), matrices };
}

const dims = [2, 5, SIZE];
const feeds: Feeds = {
  x: { type: "float32", dims, data: normal(2 * 5 * SIZE) },
  dy: { type: "float32", dims, data: normal(2 * 5 * SIZE) },
};

async function run(model: Model, plan: Int8Plan | null, withGradient = true) {
  const prepared = prepareModel(model);
  const g = importGraph(prepared.graph, prepared.opsets.get("") ?? 17);
  if (plan) applyInt8Plan(g, plan);
  const y = g.value("y");
  g.output(y, "out");
  if (withGradient) {
    const dy = g.input("dy", "float32", y.shape);
    g.output(differentiate(g, [{ value: y, gradient: dy }], [g.value("x")])[0]!, "dx");
  }
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish(), g.opset)), { threads: 1 });
  const { out, dx } = await session.run(withGradient ? feeds : { x: feeds["x"]! });
  await session.close();
  return { y: out?.data as Float32Array, dx: dx?.data as Float32Array };
}

/** dX = sum over layers of (dY (1 - y²))·Wᵀ. */
function expected(y: Float32Array, matrices: readonly number[][]): Float32Array {
  const dy = feeds["dy"]!.data as Float32Array;
  const dz = y.map((v, i) => dy[i]! * (1 - v * v));
  return Float32Array.from({ length: dz.length }, (_, at) => {
    const [row, i] = [Math.floor(at / SIZE), at % SIZE];
    let sum = 0;
    for (const matrix of matrices) for (let j = 0; j < SIZE; j++) sum += dz[row * SIZE + j]! * matrix[i * SIZE + j]!;
    return sum;
  });
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const cosine = (a: Float32Array, b: Float32Array): number => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

const forms: Form[] = [
  { type: "int8", perColumn: false, zeroPoints: true },
  { type: "int8", perColumn: true, zeroPoints: false },
  { type: "uint8", perColumn: false, zeroPoints: true },
  { type: "uint8", perColumn: true, zeroPoints: true },
  { type: "uint8", perColumn: true, zeroPoints: true, opset: 11 },
];

describe.each(forms)("%j", (form) => {
  const { model, matrices } = file(form);

  test("recognised: one operator a layer, under its module's name", () => {
    const ops = prepareModel(model).graph.nodes.map((n) => n.op);
    expect(ops.filter((op) => op === "DynamicQuantizeMatMul")).toHaveLength(3);
    expect(ops).not.toContain("MatMulInteger");
    expect(ops).not.toContain("DynamicQuantizeLinear");
    expect(findSites(model).map((s) => [s.name, s.hasBias])).toEqual([
      ["layer.query", true],
      ["layer.key", true],
      ["layer.value", true],
    ]);
  });

  test("outputs are the file's own to the bit, gradients straight through the rounding", async () => {
    const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    const own = (await session.run({ x: feeds["x"]! }))["y"]?.data as Float32Array;
    await session.close();
    const { y, dx } = await run(model, null);
    expect(y).toEqual(own);
    expect((await run(model, null, false)).y).toEqual(own);
    const exact = expected(y, matrices);
    const largest = Math.max(...exact.map(Math.abs));
    for (const [i, v] of exact.entries()) expect(Math.abs(dx[i]! - v)).toBeLessThan(2e-5 * largest);
  });

  test("in 8 bits: the same outputs, gradients up to rounding", async () => {
    const plan = createInt8Plan(model, { bits: 8 });
    expect([...plan.linears.values()].map((l) => [l.name, l.forward])).toEqual([
      ["layer.query", null],
      ["layer.key", null],
      ["layer.value", null],
    ]);
    const [plain, rounded] = [await run(model, null), await run(model, plan)];
    expect(rounded.y).toEqual(plain.y);
    expect(rounded.dx).not.toEqual(plain.dx);
    expect(cosine(plain.dx, rounded.dx)).toBeGreaterThan(0.9995);
  });
});

test("a product that something else reads stays as it is; gradients go straight through it as well", async () => {
  const { model, matrices } = file(forms[0]!, (g, product) => g.output(product, `${product.name}:shown`));
  const ops = prepareModel(model).graph.nodes.map((n) => n.op);
  expect(ops.filter((op) => op === "MatMulInteger")).toHaveLength(3);
  const { y, dx } = await run(model, null);
  const exact = expected(y, matrices);
  const largest = Math.max(...exact.map(Math.abs));
  for (const [i, v] of exact.entries()) expect(Math.abs(dx[i]! - v)).toBeLessThan(2e-5 * largest);
});

test("a gradient through rounded values that an operator without one reads is an error, not zero", () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", [4]);
  const [q, scale] = g.op("DynamicQuantizeLinear", [x], {}, { count: 3 }) as [Value, Value];
  const signs = g.op("Sign", [q])[0] as Value;
  const y = g.reduceSum(g.mul(g.cast(signs, "float32"), scale), [0], false);
  expect(() => differentiate(g, [{ value: y }], [x])).toThrow(expect.objectContaining({ code: "INTEGER_ARITHMETIC" }));
});
