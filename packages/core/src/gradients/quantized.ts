import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import { dequantizeInGraph } from "../quantization/dequantize-in-graph.ts";
import { packedWeightOf } from "../quantization/packed-weight.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { noGradient, type RuleContext, rule } from "./rule.ts";

/** dX = dY·W with W [N, K] dequantised while the gradient is computed. */
function throughPacked(c: RuleContext): Value {
  const { g, node } = c;
  const packed = packedWeightOf(g, node);
  if (!packed) {
    const reordered = node.op === "MatMulNBits" && (node.inputs[4] ?? "") !== "";
    const received = reordered ? "one with reordered columns (g_idx)" : "something else";
    throw new PeftError(
      "QUANTIZED_WEIGHT",
      `Expected ${node.op} "${node.name}" to read a packed weight made of initialisers, received ${received}.`,
      { hint: "Export it with constant scales and zero points, without g_idx, and MatMulBnb4 with transB = 1." },
    );
  }
  const [x, dY] = [inputAt(c, 0), dOutput(c)];
  return g.cast(g.matMul(g.cast(dY, "float32"), dequantizeInGraph(g, packed, dY)), x.type);
}

/** Products with weights that are stored in a few bits. */
export const quantized = {
  /**
   * Y = X·Wᵀ + bias, W [N, K] in blocks of 2, 4 or 8 bits: dX = dY·W, dbias = dY summed over rows. Nothing is saved; W is
   * dequantised once more when dY exists (4 bytes a weight, one layer at a time).
   */
  "com.microsoft::MatMulNBits": rule([1, 1], (c) => {
    const dY = dOutput(c);
    return c.inputs.map((_, i) => {
      if (!c.needs[i]) return null;
      return i === 0 ? throughPacked(c) : i === 5 ? dY : null;
    });
  }),
  /** Y = X·Wᵀ, W [N, K] in codes of NF4 or FP4: dX = dY·W, as for MatMulNBits. MatMulBnb4 itself is wrong on the CPU for transB = 0. */
  "com.microsoft::MatMulBnb4": rule([1, 1], (c) => [c.needs[0] ? throughPacked(c) : null]),
  "com.microsoft::GatherBlockQuantized": noGradient("its indices are integers, and its table is frozen"),
  "com.microsoft::MatMulIntegerToFloat": noGradient("integer arithmetic: a step function of its inputs"),
};
