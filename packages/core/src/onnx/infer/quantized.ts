import type { Infer } from "./context.ts";
import { at, fail, input, intAttribute, typeAttribute } from "./context.ts";
import { matMulShape } from "./matrix.ts";

/** X [..., K] times a packed weight [N, K] (or [K, N]): [..., N]. */
const packedMatMul: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const [rows, columns] = [intAttribute(c.node, "N", 0), intAttribute(c.node, "K", 0)];
  if (rows < 1 || columns < 1 || shape.length === 0) fail(c, `N is ${rows} and K is ${columns}.`);
  const last = at(shape, -1);
  if (typeof last === "number" && last !== columns) fail(c, `the input has ${last} columns, K is ${columns}.`);
  return [{ type, shape: [...shape.slice(0, -1), rows] }];
};

/** Rows of a packed table: bytes hold 8 / bits values each. */
const gatherBlockQuantized: Infer = (c) => {
  const [data, indices, scales] = [input(c, 0), input(c, 1), input(c, 2)];
  const axis = intAttribute(c.node, "gather_axis", 0);
  const each = data.type === "uint8" ? 8 / intAttribute(c.node, "bits", 4) : 1;
  const last = at(data.shape, -1);
  if (typeof last !== "number") fail(c, "the width of the table is not known.");
  const shape = [...data.shape.slice(0, -1), last * each];
  const positive = axis < 0 ? axis + shape.length : axis;
  return [{ type: scales.type, shape: [...shape.slice(0, positive), ...indices.shape, ...shape.slice(positive + 1)] }];
};

const integerToFloat: Infer = (c) => [
  { type: input(c, 2).type, shape: matMulShape(c, input(c, 0).shape, input(c, 1).shape) },
];

/** The type of the scales, or from opset 23 `output_dtype`. */
const dequantize: Infer = (c) => [
  { type: typeAttribute(c.node, "output_dtype", input(c, 1).type), shape: input(c, 0).shape },
];

/** The type of the zero point, or `output_dtype`, or uint8. */
const quantize: Infer = (c) => [
  { type: c.inputs[2]?.type ?? typeAttribute(c.node, "output_dtype", "uint8"), shape: input(c, 0).shape },
];

const dynamicQuantize: Infer = (c) => [
  { type: "uint8", shape: input(c, 0).shape },
  { type: "float32", shape: [] },
  { type: "uint8", shape: [] },
];

/** Operators over integers with scales. */
export const quantized = {
  DequantizeLinear: dequantize,
  QuantizeLinear: quantize,
  DynamicQuantizeLinear: dynamicQuantize,
  "com.microsoft::DequantizeLinear": dequantize,
  "com.microsoft::QuantizeLinear": quantize,
  "com.microsoft::MatMulNBits": packedMatMul,
  "com.microsoft::MatMulBnb4": packedMatMul,
  "com.microsoft::GatherBlockQuantized": gatherBlockQuantized,
  "com.microsoft::MatMulIntegerToFloat": integerToFloat,
} satisfies Record<string, Infer>;
