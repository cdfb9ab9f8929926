import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";

/** A matrix, or a product of two that is cheaper to apply one after the other. */
export type Factor = Value | { readonly left: Value; readonly right: Value };

/**
 * x·(w1 ⊗ w2)ᵀ for rows x [..., m·n], w1 [l, m], w2 [k, n], as [rows, l·k], without the Kronecker product: with a row of x
 * read as a matrix X [m, n] the result is w1·X·w2ᵀ. The side whose product is smaller comes first.
 */
export function kroneckerProduct(g: Builder, x: Value, w1: Value, w2: Factor): Value {
  const right = "left" in w2 ? w2.right : w2;
  const [l, m] = [at(w1.shape, 0), at(w1.shape, 1)];
  const n = at(right.shape, 1);
  const k = at(("left" in w2 ? w2.left : w2).shape, 0);
  const blocks = g.reshape(g.toMatrix(x), ["?rows", m, n]); // [rows, m, n]
  const byRight = (value: Value): Value => {
    const once = g.fusedMatMul(value, right, { transB: true });
    return "left" in w2 ? g.fusedMatMul(once, w2.left, { transB: true }) : once;
  };
  const byLeft = (value: Value): Value => g.matMul(w1, value);
  // Multiplications: right first m·n·k + m·k·l, left first l·m·n + l·n·k.
  const sizes = [l, m, n, k].map(Number) as [number, number, number, number];
  const [a, b, c, d] = sizes;
  const result = b * c * d + b * d * a <= a * b * c + a * c * d ? byLeft(byRight(blocks)) : byRight(byLeft(blocks));
  return g.reshape(result, ["?rows", a * d]);
}
