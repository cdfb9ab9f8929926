import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Graph, Node, Value } from "../onnx/ir.ts";
import type { SitePlan } from "./parameters.ts";
import { withParameters } from "./replace-operands.ts";
import type { SiteUse } from "./site.ts";

/** Nodes of a use and those that make its constant operands (Cast, Transpose and the like), in the graph's order. */
function ownNodes(graph: Graph, { nodes, input }: SiteUse): Node[] {
  const own = new Set(nodes);
  const needed = new Set(nodes.flatMap((node) => node.inputs).filter((name) => name !== input));
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const node = graph.nodes[i] as Node;
    if (!own.has(node) && node.outputs.some((name) => needed.has(name))) {
      if (node.inputs.some((name) => !graph.initializers.has(name) && !needed.has(name))) continue;
      own.add(node);
    }
  }
  return graph.nodes.filter((node) => own.has(node));
}

/**
 * A module with trained operands in the place of its frozen ones, applied to another input: its nodes once more, under other names,
 * reading the plan's parameters (graph inputs of `g`). The frozen module stays as it is.
 */
export function replacedModule(g: Builder, graph: Graph, plan: SitePlan, use: SiteUse, x: Value): Value {
  const part: Graph = { ...graph, nodes: ownNodes(graph, use) };
  const changed = withParameters(part, [{ ...plan, site: { ...plan.site, uses: [use] } }]);
  for (const [name, tensor] of changed.initializers) {
    if (!graph.initializers.has(name) && !g.has(name)) g.initializer(name, tensor);
  }
  const renamed = new Map([[use.input, g.cast(x, g.value(use.input).type).name]]);
  for (const node of changed.nodes) {
    const outputs = node.outputs.map((name) => (name === "" ? "" : g.freshName(name)));
    g.addNode({
      ...node,
      inputs: node.inputs.map((name) => renamed.get(name) ?? name),
      outputs,
      attributes: { ...node.attributes },
    });
    node.outputs.forEach((name, i) => {
      if (name !== "") renamed.set(name, outputs[i] as string);
    });
  }
  const result = renamed.get(use.output);
  if (result === undefined) throw new PeftError("UNKNOWN_NODE", `The site "${plan.site.name}" is not of this graph.`);
  return g.value(result);
}
