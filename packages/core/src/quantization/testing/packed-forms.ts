import type { Builder } from "../../graph/builder.ts";
import type { Value } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { quantizeCodes, quantizePerRow, quantizeRows } from "../quantize-weights.ts";

/** Numbers between -scale and scale. */
export function randomFloats(count: number, seed: number, scale = 1): Float32Array {
  const random = testRandom(seed);
  return Float32Array.from({ length: count }, () => scale * (random() * 2 - 1));
}

/** x [..., columns] times a packed weight [rows, columns]; `name` is the module's path in names of weights. */
export type PackedLinear = (g: Builder, x: Value, name: string, rows: number, columns: number, seed: number) => Value;

const contrib = (name: string) => ({ domain: "com.microsoft", name: `/${name.replaceAll(".", "/")}/MatMul_Q4` });

const init = (
  g: Builder,
  name: string,
  type: "uint8" | "int8" | "float32" | "float16" | "int32",
  dims: number[],
  values: ArrayLike<number>,
): Value => g.initializer(name, tensorFrom(type, dims, Array.from(values)));

export const nBits =
  (
    bits: 2 | 4 | 8,
    blockSize: number,
    zero: "absent" | "packed" | "float",
    options: { bias?: boolean } = {},
  ): PackedLinear =>
  (g, x, name, rows, columns, seed) => {
    const hasZeroPoint = zero !== "absent";
    const packed = quantizeRows(randomFloats(rows * columns, seed), rows, columns, { bits, blockSize, hasZeroPoint });
    const blocks = Math.ceil(columns / blockSize);
    const dims = [rows, blocks, (blockSize * bits) / 8];
    const zeroPoints = (): Value =>
      zero === "float"
        ? init(g, `${name}.zeros`, "float32", [rows * blocks], randomFloats(rows * blocks, seed + 1, 2 ** bits - 1))
        : init(g, `${name}.zeros`, "uint8", [packed.zeroPoints!.length], packed.zeroPoints!);
    const inputs = [
      x,
      init(g, `${name}.weight_Q4`, "uint8", dims, packed.data),
      init(g, `${name}.scales`, "float32", [rows * blocks], packed.scales),
      hasZeroPoint ? zeroPoints() : null,
      null,
      options.bias ? init(g, `${name}.bias`, "float32", [rows], randomFloats(rows, seed + 2)) : null,
    ];
    const attributes = { N: rows, K: columns, bits, block_size: blockSize };
    return g.op("MatMulNBits", inputs, attributes, contrib(name))[0] as Value;
  };

export const bnb4 =
  (codeBook: "nf4" | "fp4", blockSize: number): PackedLinear =>
  (g, x, name, rows, columns, seed) => {
    const packed = quantizeCodes(randomFloats(rows * columns, seed), rows, columns, { codeBook, blockSize });
    const inputs = [
      x,
      init(g, `${name}.weight_Bnb4`, "uint8", [packed.data.length], packed.data),
      init(g, `${name}.absmax`, "float32", [packed.scales.length], packed.scales),
    ];
    const attributes = {
      N: rows,
      K: columns,
      block_size: blockSize,
      quant_type: codeBook === "nf4" ? 1 : 0,
      transB: 1,
    };
    return g.op("MatMulBnb4", inputs, attributes, contrib(name))[0] as Value;
  };

/** int8 rows behind DequantizeLinear and a Transpose, as quantisers of PyTorch's layout write them. */
export const perRow: PackedLinear = (g, x, name, rows, columns, seed) => {
  const { data, scales } = quantizePerRow(randomFloats(rows * columns, seed), rows, columns);
  const inputs = [
    init(g, `${name}.weight_quantized`, "int8", [rows, columns], data),
    init(g, `${name}.scale`, "float32", [rows], scales),
  ];
  const [weight] = g.op("DequantizeLinear", inputs, { axis: 0 });
  return g.op(
    "MatMul",
    [x, g.transpose(weight as Value, [1, 0])],
    {},
    { name: `/${name.replaceAll(".", "/")}/MatMul` },
  )[0] as Value;
};

/** 4-bit integers in blocks along the input axis behind DequantizeLinear (opset 21), stored [in, out]. */
export const blockwise =
  (type: "int4" | "uint4", blockSize: number): PackedLinear =>
  (g, x, name, rows, columns, seed) => {
    const low = type === "int4" ? -8 : 0;
    const blocks = columns / blockSize;
    const random = testRandom(seed);
    const codes = Array.from({ length: rows * columns }, () => low + Math.floor(random() * 16));
    const zeros = Array.from({ length: rows * blocks }, () => low + Math.floor(random() * 16));
    const inputs = [
      g.initializer(`${name}.weight_quantized`, tensorFrom(type, [columns, rows], codes)),
      g.initializer(`${name}.scale`, tensorFrom("float32", [blocks, rows], randomFloats(rows * blocks, seed + 1, 0.1))),
      g.initializer(`${name}.zero`, tensorFrom(type, [blocks, rows], zeros)),
    ];
    const [weight] = g.op("DequantizeLinear", inputs, { axis: 0, block_size: blockSize });
    return g.op("MatMul", [x, weight as Value], {}, { name: `/${name.replaceAll(".", "/")}/MatMul` })[0] as Value;
  };

/** Weights [in, out] with one scale for all in uint8, as onnxruntime.quantization's QDQ format has them. */
export const perTensor: PackedLinear = (g, x, name, rows, columns, seed) => {
  const random = testRandom(seed);
  const codes = Array.from({ length: rows * columns }, () => Math.floor(random() * 256));
  const inputs = [
    init(g, `${name}.weight_quantized`, "uint8", [columns, rows], codes),
    init(g, `${name}.scale`, "float32", [], [0.01]),
    init(g, `${name}.zero`, "uint8", [], [119]),
  ];
  const [weight] = g.op("DequantizeLinear", inputs);
  return g.op("MatMul", [x, weight as Value], {}, { name: `/${name.replaceAll(".", "/")}/MatMul` })[0] as Value;
};

/** int8 weights behind DynamicQuantizeLinear and MatMulInteger, as onnxruntime.quantization.quantize_dynamic writes them. */
export const dynamic: PackedLinear = (g, x, name, rows, columns, seed) => {
  const random = testRandom(seed);
  const codes = Array.from({ length: rows * columns }, () => Math.floor(random() * 256) - 128);
  const path = `/${name.replaceAll(".", "/")}/MatMul`;
  const weight = init(g, `${name}.weight_quantized`, "int8", [columns, rows], codes);
  const [xq, xScale, xZero] = g.op("DynamicQuantizeLinear", [x], {}, { count: 3 });
  const scale = init(g, `${name}.weight_scale`, "float32", [], [0.01]);
  const zero = init(g, `${name}.weight_zero_point`, "int8", [], [3]);
  const [product] = g.op("MatMulInteger", [xq as Value, weight, xZero as Value, zero], {}, { name: `${path}_quant` });
  const scales = g.op("Mul", [xScale as Value, scale], {}, { name: `${path}_quant_scales_mul` })[0] as Value;
  return g.op(
    "Mul",
    [g.cast(product as Value, "float32"), scales],
    {},
    { name: `${path}_quant_output_scale_mul` },
  )[0] as Value;
};

export const packedForms: Readonly<Record<string, PackedLinear>> = {
  "MatMulNBits 4 bits": nBits(4, 16, "absent"),
  "MatMulNBits 4 bits, packed zero points, padded block": nBits(4, 32, "packed"),
  "MatMulNBits 4 bits, float zero points": nBits(4, 16, "float"),
  "MatMulNBits 4 bits, bias": nBits(4, 16, "packed", { bias: true }),
  "MatMulNBits 8 bits": nBits(8, 16, "packed"),
  "MatMulNBits 8 bits without zero points": nBits(8, 16, "absent"),
  "MatMulNBits 2 bits": nBits(2, 16, "packed"),
  "MatMulBnb4 NF4": bnb4("nf4", 16),
  "MatMulBnb4 FP4, blocks across rows": bnb4("fp4", 64),
  "DequantizeLinear per row": perRow,
  "DequantizeLinear per tensor": perTensor,
  "DequantizeLinear int4 blocks": blockwise("int4", 16),
  "DequantizeLinear uint4 blocks": blockwise("uint4", 16),
};
