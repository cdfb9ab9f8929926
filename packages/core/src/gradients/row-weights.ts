import { intAttribute } from "../onnx/infer/context.ts";
import type { Node, Shape, Value } from "../onnx/ir.ts";
import type { RuleContext } from "./rule.ts";

/**
 * sum(Y * dY) over the last axis, [..., 1], of weights Y of an attention: where all that is made of Y is O = alpha (Y * M)·V, with
 * or without a mask M, it is sum(O * dO), as dY = M * (alpha dO·Vᵀ). O is narrower than Y in all but the shortest sequences, and
 * neither product of the size of Y is made. null where Y is used in another way.
 */
export function weightedGradientSum(c: RuleContext, y: Value): Value | null {
  const { g } = c;
  let weights = y;
  for (;;) {
    const use = c.onlyUse(weights);
    const result = use && g.value(use.outputs[0] as string);
    if (!use || !result) return null;
    if (isProduct(use, weights)) {
      const gradient = c.gradientOf(result);
      if (!gradient || !sameShape(result.shape.slice(0, -1), weights.shape.slice(0, -1))) return null;
      const sums = g.reduceSum(g.mul(result, gradient), [-1]);
      return sameShape(weights.shape, y.shape) ? sums : g.reshape(sums, [...y.shape.slice(0, -1), 1], y);
    }
    if (!keepsRows(use, weights, result)) return null;
    weights = result;
  }
}

/** A product of matrices whose left factor, as it is, are the weights. */
function isProduct(node: Node, weights: Value): boolean {
  if (node.inputs[0] !== weights.name || weights.shape.length < 2) return false;
  if (node.op === "MatMul" && node.domain === "") return true;
  const flags = ["transA", "transBatchA", "transBatchB"];
  return node.op === "FusedMatMul" && flags.every((flag) => intAttribute(node, flag, 0) === 0);
}

/** As they are, multiplied by a mask, or with other axes in front of the last one. */
function keepsRows({ op, domain }: Node, weights: Value, result: Value): boolean {
  if (domain !== "") return false;
  if (op === "Identity") return true;
  if (op === "Mul") return sameShape(result.shape, weights.shape);
  return op === "Reshape" && result.shape.length > 1 && result.shape.at(-1) === weights.shape.at(-1);
}

const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i]);
