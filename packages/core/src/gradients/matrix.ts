import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { invertPermutation, upTo } from "./axes.ts";
import { frozenOperand } from "./frozen-operand.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { integerLeft } from "./integer-left.ts";
import { type RuleContext, rule, straightThrough } from "./rule.ts";

/** Factors as matrices: a 1-D left factor is a row, a 1-D right factor a column, and dY gets the missing axes. */
function asMatrices(c: RuleContext): { a: Value; b: Value; dY: Value; column: boolean } {
  const { g } = c;
  const [a, b] = [inputAt(c, 0), inputAt(c, 1)];
  let dY = dOutput(c);
  if (b.shape.length === 1) dY = g.unsqueeze(dY, [dY.shape.length]);
  if (a.shape.length === 1) dY = g.unsqueeze(dY, [dY.shape.length - 1]);
  return {
    a: a.shape.length === 1 ? g.unsqueeze(a, [0]) : a,
    b: b.shape.length === 1 ? g.unsqueeze(b, [1]) : b,
    dY,
    column: b.shape.length === 1,
  };
}

interface Flags {
  transA?: boolean;
  transB?: boolean;
  alpha?: number;
}

/** The product by Gemm for two matrices (every provider has it) and by FusedMatMul with batch axes. */
const product = (c: RuleContext, a: Value, b: Value, flags: Flags): Value =>
  a.shape.length === 2 && b.shape.length === 2 ? c.g.gemm(a, b, null, flags) : c.g.fusedMatMul(a, b, flags);

/** Gradient of the left factor of alpha * A'·B'. It needs B only. */
function left(c: RuleContext, factor: Value, dY: Value, f: Flags): Value {
  const { transB = false, alpha = 1 } = f;
  const b = frozenOperand(c.g, factor, dY);
  return f.transA
    ? product(c, b, dY, { transA: transB, transB: true, alpha })
    : product(c, dY, b, { transB: !transB, alpha });
}

/** Gradient of the right factor of alpha * A'·B'. It needs A only. */
function right(c: RuleContext, a: Value, b: Value, dY: Value, f: Flags): Value {
  const { transA = false, transB = false, alpha = 1 } = f;
  if (b.shape.length === 2 && a.shape.length > 2 && !transA) {
    // One weight for the whole batch: rows of all batches form one matrix, and one Gemm sums over them.
    const [rows, dRows] = [c.g.toMatrix(a), c.g.toMatrix(dY)];
    return transB
      ? c.g.gemm(dRows, rows, null, { transA: true, alpha })
      : c.g.gemm(rows, dRows, null, { transA: true, alpha });
  }
  return transB
    ? product(c, dY, a, { transA: true, transB: transA, alpha })
    : product(c, a, dY, { transA: !transA, alpha });
}

/** FusedMatMul's transBatch flags move axis 0 in front of the last axis before anything else: [1, ..., r-2, 0, r-1]. */
const batchPermutation = (rank: number): number[] => [...upTo(rank - 2).map((i) => i + 1), 0, rank - 1];

/** Products of matrices. The engine sums over batch axes that were broadcast. */
export const matrix = {
  /**
   * Y = A·B with broadcast batch axes. A [..., m, k], B [..., k, n], Y [..., m, n].
   *   dA = dY·Bᵀ, dB = Aᵀ·dY.
   * dA needs B and dB needs A: with B a frozen weight no activation is saved.
   */
  MatMul: rule([1, 24], (c) => {
    const { a, b, dY, column } = asMatrices(c);
    const dB = c.needs[1] ? right(c, a, b, dY, {}) : null;
    return [c.needs[0] ? left(c, b, dY, {}) : null, dB && column ? c.g.squeeze(dB, [dB.shape.length - 1]) : dB];
  }),
  /**
   * Y = alpha * A'·B' + beta * C, A' = A or Aᵀ [m, k], B' = B or Bᵀ [k, n], C broadcasts to [m, n].
   *   dA' = alpha * dY·B'ᵀ, dB' = alpha * A'ᵀ·dY, dC = beta * dY. Saves A for dB, B for dA.
   */
  Gemm: rule([7, 24], (c) => {
    const flags = {
      transA: intAttribute(c.node, "transA", 0) === 1,
      transB: intAttribute(c.node, "transB", 0) === 1,
      alpha: floatAttribute(c.node, "alpha", 1),
    };
    const beta = floatAttribute(c.node, "beta", 1);
    const [a, b, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    return [
      c.needs[0] ? left(c, b, dY, flags) : null,
      c.needs[1] ? right(c, a, b, dY, flags) : null,
      c.needs[2] ? (beta === 1 ? dY : c.g.mul(dY, beta)) : null,
    ];
  }),
  /**
   * Y = alpha * A'·B' with broadcast batch axes; transA and transB swap a factor's last two axes, transBatchA and
   * transBatchB first move axis 0 in front of the last one. Gradients as for Gemm. Saves A for dB, B for dA.
   */
  "com.microsoft::FusedMatMul": rule([1, 24], (c) => {
    const flags = {
      transA: intAttribute(c.node, "transA", 0) === 1,
      transB: intAttribute(c.node, "transB", 0) === 1,
      alpha: floatAttribute(c.node, "alpha", 1),
    };
    const moved = (x: Value, flag: string): readonly number[] | null =>
      intAttribute(c.node, flag, 0) === 1 && x.shape.length > 2 ? batchPermutation(x.shape.length) : null;
    const { a, b, dY, column } = asMatrices(c);
    const [permA, permB] = [moved(a, "transBatchA"), moved(b, "transBatchB")];
    const plain = (x: Value, perm: readonly number[] | null): Value => (perm ? c.g.transpose(x, perm) : x);
    const back = (dX: Value, perm: readonly number[] | null): Value =>
      perm ? c.g.transpose(dX, invertPermutation(perm)) : dX;
    // ONNX Runtime ignores the transposition of a 1-D factor.
    const own = { ...flags, transA: flags.transA && inputAt(c, 0).shape.length > 1, transB: flags.transB && !column };
    const dB = c.needs[1] ? back(right(c, plain(a, permA), plain(b, permB), dY, own), permB) : null;
    return [
      c.needs[0] ? back(left(c, plain(b, permB), dY, own), permA) : null,
      dB && column ? c.g.squeeze(dB, [dB.shape.length - 1]) : dB,
    ];
  }),
  /**
   * Y = (A - a)·(B - b) over integers, zero points a for all or per row, b for all or per column: straight through,
   * dA = dY·(B - b)ᵀ, dB = (A - a)ᵀ·dY, which only what rounds A and B takes up. Saves the other factor, in 8 bits.
   */
  MatMulInteger: straightThrough([10, 24], (c) => {
    const { g, needs } = c;
    const { a, b, dY, column } = asMatrices(c);
    const shifted = (x: Value, zero: Value | null | undefined, axis: 0 | 1): Value => {
      const float = g.cast(x, dY.type);
      if (!zero) return float;
      const isVector = zero.shape.length === 1 && axis === 0;
      return g.sub(float, g.cast(isVector ? g.unsqueeze(zero, [1]) : zero, dY.type));
    };
    const dB = needs[1] ? right(c, shifted(a, c.inputs[2], 0), b, dY, {}) : null;
    return [
      needs[0] ? left(c, shifted(b, c.inputs[3], 1), dY, {}) : null,
      dB && column ? g.squeeze(dB, [dB.shape.length - 1]) : dB,
    ];
  }),
  /**
   * Y = round(X)·W·scales + bias with X rounded to 8 bits: straight through, dX = dY·Wᵀ with W dequantised (in 8 bits where
   * the graph has a form of W for it: {@link integerLeft}), dbias = dY. Saves nothing.
   */
  "com.microsoft::DynamicQuantizeMatMul": rule([1, 1], (c) => {
    const dY = dOutput(c);
    const weight = { weight: inputAt(c, 1), scales: inputAt(c, 2), zeroPoints: c.inputs[3] ?? null };
    return [c.needs[0] ? integerLeft(c.g, dY, weight) : null, null, null, null, c.needs[4] ? dY : null];
  }),
};
