import { isReached, valuesBehind } from "../adapters/reach.ts";
import type { Site } from "../adapters/site.ts";
import { type MissingOperator, operatorsWithoutRule } from "../describe/missing-rules.ts";
import { gradientRuleOf } from "../gradients/table.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Graph } from "../onnx/ir.ts";

/** Which sites gradients can reach, and from which outputs. */
export interface TrainableSites {
  /** Outputs that a loss can look at without losing a site. */
  readonly outputs: readonly string[];
  readonly sites: readonly Site[];
  /** Sites that no floating-point output depends on. */
  readonly unreached: readonly Site[];
  /** Sites behind an operator without a rule. */
  readonly blocked: readonly Site[];
  /** Those operators: they lie between adapters and outputs. */
  readonly missing: readonly MissingOperator[];
}

/**
 * Splits sites by whether a gradient can come back to them. Every floating-point output is looked at alone; the one that
 * reaches most sites counts, with all others that do not stand in their way.
 */
export function trainableSites(graph: Graph, sites: readonly Site[], names: readonly string[]): TrainableSites {
  const outputs = names.filter((name) => graph.outputs.some((v) => v.name === name && isFloating(v.type)));
  const judged = outputs.map((output) => {
    const behind = valuesBehind(graph, [output]);
    const reached = sites.filter((site) => isReached(site, behind));
    return {
      output,
      reached: new Set(reached),
      clear: new Set(reached.filter((site) => isClear(graph, site, output))),
    };
  });
  judged.sort((a, b) => b.clear.size - a.clear.size);
  const [best] = judged;
  const chosen = judged.filter(
    ({ reached, clear }) =>
      clear.size > 0 && [...(best?.clear ?? [])].every((site) => !reached.has(site) || clear.has(site)),
  );
  const reachedByAny = new Set(judged.flatMap(({ reached }) => [...reached]));
  const open = sites.filter(
    (site) =>
      chosen.some(({ clear }) => clear.has(site)) &&
      chosen.every(({ reached, clear }) => !reached.has(site) || clear.has(site)),
  );
  const blocked = sites.filter((site) => reachedByAny.has(site) && !open.includes(site));
  return {
    outputs: chosen.map(({ output }) => output),
    sites: open,
    unreached: sites.filter((site) => !reachedByAny.has(site)),
    blocked,
    missing: operatorsWithoutRule(graph, blocked.flatMap(outputsOf), outputs),
  };
}

const outputsOf = (site: Site): string[] => site.uses.map((use) => use.output);

const isClear = (graph: Graph, site: Site, output: string): boolean =>
  operatorsWithoutRule(graph, outputsOf(site), [output]).length === 0 && hasDerivative(graph, outputsOf(site), output);

/** True when a path leads to the output that no operator without a derivative (ArgMax, Shape) cuts. */
function hasDerivative(graph: Graph, from: readonly string[], output: string): boolean {
  const active = new Set(from);
  for (const node of graph.nodes) {
    const rule = gradientRuleOf(node);
    if ((rule && "none" in rule) || !node.inputs.some((name) => active.has(name))) continue;
    for (const name of node.outputs) if (name !== "") active.add(name);
  }
  return active.has(output);
}
