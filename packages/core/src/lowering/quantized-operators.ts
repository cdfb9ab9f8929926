import type { Value } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { type Expansion, type ExpansionContext, required } from "./expansion.ts";

/** Input `index` in float: (q - zero point) * scale, the scale and zero point at the given inputs. `axis` counts for scales per slice. */
function dequantized(c: ExpansionContext, index: number, scale: number, zero: number, axis: number): Value {
  const inputs = [required(c, index), required(c, scale), c.inputs[zero] ?? null];
  return c.g.op("DequantizeLinear", inputs, inputs[1]?.shape.length === 1 ? { axis } : {})[0] as Value;
}

const quantized = (c: ExpansionContext, y: Value, scale: number, zero: number): Value =>
  c.g.op("QuantizeLinear", [y, required(c, scale), c.inputs[zero] ?? null])[0] as Value;

/** An int32 bias, in units of both scales: a packed operand of its layer where the scales are constants, as they nearly always are. */
function biasOf(c: ExpansionContext, index: number, scales: readonly [number, number]): Value | null {
  const bias = c.inputs[index];
  if (!bias) return null;
  const [own, other] = scales.map((scale) => c.constant(scale));
  if (!own || !other) {
    return c.g.mul(c.g.cast(bias, "float32"), c.g.mul(required(c, scales[0]), required(c, scales[1])));
  }
  const [unit = 1] = toFloat32Array(own);
  const products = Array.from(toFloat32Array(other), (value) => value * unit);
  const isOne = products.length === 1;
  const scale = c.g.constant("float32", products, isOne ? [] : [products.length]);
  return c.g.op("DequantizeLinear", [bias, scale], isOne ? {} : { axis: 0 })[0] as Value;
}

/** Operators of two quantised factors and a quantised result: a, its scale and zero point, b, those of b, those of the result. */
const binary =
  (op: (c: ExpansionContext, a: Value, b: Value) => Value): Expansion =>
  (c) => [quantized(c, op(c, dequantized(c, 0, 1, 2, -2), dequantized(c, 3, 4, 5, -1)), 6, 7)];

/**
 * Operators in 8-bit arithmetic as the ordinary ones between DequantizeLinear and QuantizeLinear: the form in which weights are
 * found and gradients pass straight through the rounding. ONNX Runtime computes such groups in integers again. A result
 * may differ by one step where float32 and integer sums round differently.
 */
export const quantizedOperators = {
  QLinearMatMul: binary((c, a, b) => c.g.matMul(a, b)),
  "com.microsoft::QLinearAdd": binary((c, a, b) => c.g.add(a, b)),
  "com.microsoft::QLinearMul": binary((c, a, b) => c.g.mul(a, b)),
  /** X, its scale and zero point, those of the result. */
  "com.microsoft::QLinearSigmoid": (c) => [quantized(c, c.g.sigmoid(dequantized(c, 0, 1, 2, -1)), 3, 4)],
  /** x, w [out, in / groups, ...] with a scale per output or one, the result's scale, and B in units of both scales. */
  QLinearConv: (c) => {
    const bias = biasOf(c, 8, [1, 4]);
    const inputs = [dequantized(c, 0, 1, 2, 1), dequantized(c, 3, 4, 5, 0), bias];
    return [quantized(c, c.g.op("Conv", inputs, { ...c.node.attributes })[0] as Value, 6, 7)];
  },
  /** Gemm of A and B with C in units of both scales; without a scale of its own the result is a float. */
  "com.microsoft::QGemm": (c) => {
    const transposed = c.node.attributes["transB"]?.value === 1;
    const inputs = [dequantized(c, 0, 1, 2, 0), dequantized(c, 3, 4, 5, transposed ? 0 : 1), biasOf(c, 6, [1, 4])];
    const [y] = c.g.op("Gemm", inputs, { ...c.node.attributes });
    return [c.inputs[7] ? quantized(c, y as Value, 7, 8) : (y as Value)];
  },
  /** A·B + bias in float: A, B, their scales, their zero points, bias. */
  "com.microsoft::MatMulIntegerToFloat": (c) => {
    const product = c.g.matMul(dequantized(c, 0, 2, 4, -2), dequantized(c, 1, 3, 5, -1));
    const bias = c.inputs[6];
    return [bias ? c.g.add(product, bias) : product];
  },
} satisfies Record<string, Expansion>;
