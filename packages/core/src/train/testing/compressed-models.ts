import { randomFillSync } from "node:crypto";
import { type Builder, createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import type { ElementType } from "../../onnx/element-type.ts";
import type { Model, Value } from "../../onnx/ir.ts";

/** Width of the layers: 4 MB each in float32. */
export const WIDTH = 1024;
const PATH = "blocks";

/** Random contents without randomness that costs time; every layer has bytes of its own, as equal ones are shared. */
function bytes(g: Builder, name: string, type: ElementType, dims: number[], length: number): Value {
  const data = randomFillSync(new Uint8Array(length));
  // 16-bit floats between 0.03 and 0.06, of either sign.
  if (type === "float16") {
    const halves = new Uint16Array(data.buffer);
    for (let i = 0; i < halves.length; i++) halves[i] = ((halves[i] as number) & 0x83ff) | 0x2800;
  }
  return g.initializer(name, { type, dims, data });
}

const constant = (g: Builder, name: string, dims: number[], value: number): Value => {
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(value);
  return g.initializer(name, { type: "float32", dims, data: new Uint8Array(data.buffer) });
};

type Layer = (g: Builder, x: Value, name: string) => Value;
const contrib = { domain: "com.microsoft" };
const matMul = (g: Builder, x: Value, weight: Value, name: string): Value =>
  g.op("MatMul", [x, weight], {}, { name: `/${name.replaceAll(".", "/")}/MatMul` })[0] as Value;

/** One frozen layer [1024, 1024] in each form; entries are about as large as those of an orthogonal matrix. */
export const compressedLayers: Readonly<Record<string, Layer>> = {
  "MatMulNBits, 4 bits in blocks of 32": (g, x, name) => {
    const data = bytes(g, `${name}.weight_Q4`, "uint8", [WIDTH, WIDTH / 32, 16], WIDTH ** 2 / 2);
    const scales = constant(g, `${name}.scales`, [(WIDTH * WIDTH) / 32], 0.0065);
    const attributes = { N: WIDTH, K: WIDTH, bits: 4, block_size: 32 };
    return g.op("MatMulNBits", [x, data, scales], attributes, contrib)[0] as Value;
  },
  "MatMulBnb4, NF4 in blocks of 64": (g, x, name) => {
    const data = bytes(g, `${name}.weight_Bnb4`, "uint8", [WIDTH ** 2 / 2], WIDTH ** 2 / 2);
    const absmax = constant(g, `${name}.absmax`, [WIDTH ** 2 / 64], 0.05);
    const attributes = { N: WIDTH, K: WIDTH, block_size: 64, quant_type: 1, transB: 1 };
    return g.op("MatMulBnb4", [x, data, absmax], attributes, contrib)[0] as Value;
  },
  "DequantizeLinear, int4 in blocks of 32": (g, x, name) => {
    const data = bytes(g, `${name}.weight_quantized`, "int4", [WIDTH, WIDTH], WIDTH ** 2 / 2);
    const scales = constant(g, `${name}.scale`, [WIDTH / 32, WIDTH], 0.0065);
    const [weight] = g.op("DequantizeLinear", [data, scales], { axis: 0, block_size: 32 });
    return matMul(g, x, weight as Value, name);
  },
  "DequantizeLinear, int8 per column": (g, x, name) => {
    const data = bytes(g, `${name}.weight_quantized`, "int8", [WIDTH, WIDTH], WIDTH ** 2);
    const [weight] = g.op("DequantizeLinear", [data, constant(g, `${name}.scale`, [WIDTH], 0.0004)], { axis: 1 });
    return matMul(g, x, weight as Value, name);
  },
  float16: (g, x, name) => {
    const data = bytes(g, `${name}.weight`, "float16", [WIDTH, WIDTH], 2 * WIDTH ** 2);
    const half = g.op("Cast", [x], { to: 10 })[0] as Value;
    return g.cast(matMul(g, half, data, name), "float32");
  },
};

/** x [rows, 1024] through `count` layers to y. */
export function compressedModel(layer: Layer, count: number): Model {
  const g = createBuilder(21);
  let x = g.input("x", "float32", ["rows", WIDTH]);
  for (let i = 0; i < count; i++) x = layer(g, x, `${PATH}.${i}`);
  g.output(x, "y");
  return toModel(g.finish(), 21);
}
