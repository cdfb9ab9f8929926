import { isKnownOperator, type OperatorKey, operatorKey } from "../onnx/infer/table.ts";
import type { Node } from "../onnx/ir.ts";
import { arithmetic } from "./arithmetic.ts";
import type { GradientRule } from "./rule.ts";

/** The gradient of every operator the engine knows: a rule, or the statement that there is none. */
export const gradientTable: Readonly<Partial<Record<OperatorKey, GradientRule>>> = {
  ...arithmetic,
};

/** The rule of a node's operator; undefined when there is none yet. */
export function gradientRuleOf(node: Node): GradientRule | undefined {
  const key = operatorKey(node.op, node.domain);
  return isKnownOperator(key) ? gradientTable[key] : undefined;
}
