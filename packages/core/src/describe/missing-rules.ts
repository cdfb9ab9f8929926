import { valuesBehind } from "../adapters/reach.ts";
import { gradientRuleOf } from "../gradients/table.ts";
import { inferenceOf, operatorKey } from "../onnx/infer/table.ts";
import type { Graph, Node } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";

/** An operator that stands in the way, and where. */
export interface MissingOperator {
  /** With its domain before "::" unless it is ONNX's own. */
  readonly operator: string;
  readonly count: number;
  /** Name of the first such node. */
  readonly example: string;
}

const counted = (nodes: readonly Node[]): MissingOperator[] => {
  const keys = [...new Set(nodes.map((n) => operatorKey(n.op, n.domain)))].sort();
  return keys.map((operator) => {
    const same = nodes.filter((n) => operatorKey(n.op, n.domain) === operator);
    return { operator, count: same.length, example: same[0]?.name ?? "" };
  });
};

/** Operators whose shapes this engine cannot infer. */
export const unknownOperators = (graph: Graph): MissingOperator[] =>
  counted(graph.nodes.filter((node) => !inferenceOf(node.op, node.domain)));

/** Operators between the given values and the wanted outputs that have no gradient rule. */
export function operatorsWithoutRule(
  graph: Graph,
  from: readonly string[],
  wanted: readonly string[],
): MissingOperator[] {
  const behind = valuesBehind(graph, wanted);
  const active = new Set(from);
  const missing: Node[] = [];
  for (const node of graph.nodes) {
    if (![...readNames(node)].some((name) => active.has(name)) || !node.outputs.some((name) => behind.has(name)))
      continue;
    const rule = gradientRuleOf(node);
    if (rule && "none" in rule) continue;
    if (!rule) missing.push(node);
    for (const name of node.outputs) if (name !== "") active.add(name);
  }
  return counted(missing);
}
