import { gradientRuleOf } from "../gradients/table.ts";
import type { Builder } from "../graph/builder.ts";
import { operatorKey } from "../onnx/infer/table.ts";
import type { Value } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";

/** Operators with a gradient rule on a path from `wanted` to `outputs`, in what a builder holds so far. */
export function differentiatedOperators(g: Builder, wanted: readonly Value[], outputs: readonly Value[]): string[] {
  const active = new Set(wanted.map((v) => v.name));
  const forward = g.nodes.filter((node) => {
    const rule = gradientRuleOf(node);
    if (!rule || "none" in rule || ![...readNames(node)].some((name) => active.has(name))) return false;
    for (const name of node.outputs) if (name !== "") active.add(name);
    return true;
  });
  const needed = new Set(outputs.map((v) => v.name));
  const found = new Set<string>();
  for (const node of forward.reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    found.add(operatorKey(node.op, node.domain));
    for (const name of readNames(node)) needed.add(name);
  }
  return [...found].sort();
}
