import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { tiedConstant } from "../quantization/tied-constant.ts";

/** A constant matrix W [in, out] in integers: (weight - zeroPoints) * scales, per tensor or per column. */
export interface IntegerMatrix {
  readonly weight: Value;
  readonly scales: Value;
  readonly zeroPoints: Value | null;
}

/** Rows whose largest magnitude is below this count as zero: a gradient of zeros has no scale. */
const SMALLEST_ROW = 1e-30;

/**
 * dY·Wᵀ for a frozen integer matrix: in 8-bit arithmetic where the graph has a transposed form of W (`backwardWeights`), else
 * in float32 with W dequantised once dY exists.
 */
export function integerLeft(g: Builder, dY: Value, matrix: IntegerMatrix): Value {
  const transposed = g.backwardWeights.get(matrix.weight.name);
  if (transposed) return rowScaledProduct(g, dY, transposed.weight, transposed.scales);
  return g.fusedMatMul(dY, dequantized(g, matrix, dY), { transB: true });
}

/**
 * dY·M with M [out, in] in 8 bits. The operator rounds with one scale for all of dY, and rows of a gradient differ by orders
 * of magnitude (only the first token may carry the loss), so each is divided by its largest magnitude m before, and multiplied
 * after: m * round(dY / m)·M.
 */
export function rowScaledProduct(g: Builder, dY: Value, weight: Value, scales: Value): Value {
  const last = [dY.shape.length - 1];
  const high = g.reduceMax(dY, last);
  const low = g.reduceMin(dY, last);
  const m = g.max(g.max(high, g.neg(low)), SMALLEST_ROW);
  const rows = g.mul(dY, g.reciprocal(m));
  const [product] = g.op("DynamicQuantizeMatMul", [rows, weight, scales], {}, { domain: "com.microsoft" });
  return g.mul(product as Value, m);
}

/**
 * W in float32, made once dY exists: the engine neither computes it at load nor keeps it from the forward pass. Scales per
 * column are known to DequantizeLinear from opset 13 on; before, the same in single operators.
 */
function dequantized(g: Builder, { weight, scales, zeroPoints }: IntegerMatrix, dY: Value): Value {
  const perTensor = scales.shape.length === 0 || scales.shape[0] === 1;
  if (g.opset >= 13) {
    const axis = perTensor ? {} : { axis: 1 };
    return g.op("DequantizeLinear", [weight, g.after(scales, dY), zeroPoints], axis)[0] as Value;
  }
  const codes = g.cast(tiedConstant(g, weight, dY), "float32");
  return g.mul(zeroPoints ? g.sub(codes, g.cast(zeroPoints, "float32")) : codes, scales);
}
