import type { Builder } from "../graph/builder.ts";
import { add, kron, type Matrix, multiply } from "../linalg/matrix.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { toMatrices } from "./dense.ts";
import type { AdapterTensor } from "./method.ts";

/** W [n, in/n, out/n], or its factors L [n, in/n, r] and R [n, r, out/n]. */
export type PhmWeight<T> = T | { readonly left: T; readonly right: T };

/**
 * x·H with H = Σ_i A_i ⊗ W_i for rows x [..., in]: a layer of parameterised hypercomplex multiplication (Zhang et al. 2021, arXiv 2102.08597). A [n, n, n];
 * result [..., out].
 *
 * With factors W_i = L_i·R_i of rank r, H need not be made: (x_a·L_i) for the n parts x_a of x, mixed by A, times R_i. The mixing is
 * put into the side that is narrow, so that two thin products are left. Multiplications per row: in·out with H,
 * n·r·in + n²·r·out with A in R, n²·r·in + n·r·out with A in L; the cheapest is built. 768 to 24 with n 4, r 1: 18,432, 3,456 and 12,384.
 */
export function phmProduct(g: Builder, x: Value, rule: Value, weight: PhmWeight<Value>): Value {
  const n = Number(at(rule.shape, 0));
  if (!("left" in weight)) return g.matMul(x, denseOf(g, rule, weight, n));
  const { left, right } = weight;
  const [p, r, o] = [at(left.shape, 1), at(left.shape, 2), at(right.shape, 2)].map(Number) as [number, number, number];
  const [width, out] = [n * p, n * o];
  const costs = [width * out, n * r * width + n * n * r * out, n * n * r * width + n * r * out];
  const best = costs.indexOf(Math.min(...costs));
  if (best === 0) return g.matMul(x, denseOf(g, rule, g.matMul(left, right), n));
  const rows = x.shape.slice(0, -1);
  if (best === 1) {
    const lefts = g.reshape(g.transpose(left, [1, 0, 2]), [p, n * r]);
    const parts = g.reshape(g.matMul(g.reshape(x, [...rows, n, p], undefined), lefts), [...rows, n * n * r]);
    // A in R: entry (a, i, k), (b, o) is A_i[a, b]·R_i[k, o].
    const mixed = g.mul(g.reshape(g.transpose(rule, [1, 0, 2]), [n, n, 1, n, 1]), g.reshape(right, [1, n, r, 1, o]));
    return g.matMul(parts, g.reshape(mixed, [n * n * r, out]));
  }
  // A in L: entry (a, p), (b, i, k) is A_i[a, b]·L_i[p, k].
  const mixed = g.mul(
    g.reshape(g.transpose(rule, [1, 2, 0]), [n, 1, n, n, 1]),
    g.reshape(g.transpose(left, [1, 0, 2]), [1, p, 1, n, r]),
  );
  const parts = g.reshape(g.matMul(x, g.reshape(mixed, [width, n * n * r])), [...rows, n, n * r]);
  return g.reshape(g.matMul(parts, g.reshape(right, [n * r, o])), [...rows, out]);
}

/** H [in, out] of W [n, in/n, out/n]. */
function denseOf(g: Builder, rule: Value, weight: Value, n: number): Value {
  const [p, o] = [at(weight.shape, 1), at(weight.shape, 2)].map(Number) as [number, number];
  const sums = g.fusedMatMul(g.reshape(rule, [n, n * n]), g.reshape(weight, [n, p * o]), { transA: true });
  return g.reshape(g.transpose(g.reshape(sums, [n, n, p, o]), [0, 2, 1, 3]), [n * p, n * o]);
}

/** H [in, out] as a matrix. */
export function phmMatrix(rule: AdapterTensor, weight: PhmWeight<AdapterTensor>): Matrix {
  const rules = toMatrices(rule);
  const weights =
    "left" in weight
      ? toMatrices(weight.left).map((left, i) => multiply(left, toMatrices(weight.right)[i] as Matrix))
      : toMatrices(weight);
  return rules.map((a, i) => kron(a, weights[i] as Matrix)).reduce((sum, term) => add(sum, term));
}

/** A = left·right [n, n, n] for factors [n, n, 1] and [n, 1, n]. */
export function ruleOf(left: AdapterTensor, right: AdapterTensor): AdapterTensor {
  const products = toMatrices(left).map((l, i) => multiply(l, toMatrices(right)[i] as Matrix));
  const n = products.length;
  const data = new Float32Array(n * n * n);
  products.forEach((m, i) => {
    data.set(m.data, i * n * n);
  });
  return { dims: [n, n, n], data };
}
