import type { Builder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { isKnownOperator, operatorKey } from "../onnx/infer/table.ts";
import type { Graph, Model, Node } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { readNames } from "../onnx/structure.ts";
import type { Expansion } from "./expansion.ts";

const keyOf = (node: Node): string => operatorKey(node.op, node.domain);

/**
 * Replaces nodes by their expansions. All other nodes, initialisers and value names stay what they are; the outputs of an
 * expanded node keep their names. New nodes are named "<node>/<operator>_<n>" and carry the node's metadata, so that
 * module paths can be read from them.
 */
export function expandNodes(model: Model, table: Readonly<Record<string, Expansion>>): Model {
  const { graph } = model;
  const isExpanded = (node: Node): boolean => Object.hasOwn(table, keyOf(node));
  if (!graph.nodes.some(isExpanded)) return model;
  // Shapes cannot be inferred past an operator that nobody knows. Whoever takes the graph over names it.
  if (graph.nodes.some((node) => !isExpanded(node) && !isTakenOver(node))) return model;
  const read = new Set(graph.outputs.map((v) => v.name));
  for (const node of graph.nodes) for (const name of readNames(node)) read.add(name);
  const replacements = new Map<Node, readonly Node[]>();
  const g = importGraph(graph, opsetOf(model), {
    replace: (builder, node) => {
      const expansion = table[keyOf(node)];
      if (!expansion || !isExpanded(node)) return false;
      const nodes = expand(builder, node, expansion, read);
      if (nodes) replacements.set(node, nodes);
      return nodes !== null;
    },
  });
  if (replacements.size === 0) return model;
  return { ...model, opsets: withContrib(model), graph: assemble(graph, replacements, g) };
}

const isTakenOver = (node: Node): boolean =>
  isKnownOperator(keyOf(node)) || (node.op === "Constant" && node.domain === "");

const withContrib = (model: Model): Map<string, number> => new Map([["com.microsoft", 1], ...model.opsets]);

/** The nodes that stand for `node`, or null when it stays. */
function expand(g: Builder, node: Node, expansion: Expansion, read: ReadonlySet<string>): Node[] | null {
  const first = g.nodes.length;
  const results = g.scoped(node.name === "" ? node.op : node.name, () =>
    expansion({
      g,
      node,
      inputs: node.inputs.map((name) => (name === "" ? null : g.value(name))),
      isRead: (index) => read.has(node.outputs[index] ?? ""),
      constant: (index) => g.initializers.get(node.inputs[index] ?? "") ?? null,
    }),
  );
  if (results === null) return null;
  const made = g.nodes.slice(first);
  const own = new Set(made.flatMap((n) => n.outputs));
  const names = new Map<string, string>();
  const shown: Node[] = [];
  node.outputs.forEach((name, i) => {
    const value = results[i];
    if (name === "" || !value) return;
    g.op("Identity", [value], {}, { outputs: [name] });
    if (own.has(value.name) && !names.has(value.name)) names.set(value.name, name);
    else shown.push({ ...identity(node, names.get(value.name) ?? value.name, name) });
  });
  const rename = (name: string): string => names.get(name) ?? name;
  const nodes = made.map((n) => ({
    ...n,
    inputs: n.inputs.map(rename),
    outputs: n.outputs.map(rename),
    metadata: node.metadata,
  }));
  return [...nodes, ...shown];
}

const identity = (node: Node, from: string, to: string): Node => ({
  name: `${node.name}/${to}`,
  op: "Identity",
  domain: "",
  inputs: [from],
  outputs: [to],
  attributes: {},
  metadata: node.metadata,
});

/** The graph with the replacements in place and those new constants that they read. */
function assemble(graph: Graph, replacements: ReadonlyMap<Node, readonly Node[]>, g: Builder): Graph {
  const nodes = graph.nodes.flatMap((node) => replacements.get(node) ?? [node]);
  const initializers = new Map(graph.initializers);
  const made = new Set(nodes.flatMap((node) => node.outputs));
  for (const added of replacements.values()) {
    for (const name of added.flatMap((node) => node.inputs)) {
      const tensor = g.initializers.get(name);
      if (tensor && !made.has(name)) initializers.set(name, tensor);
    }
  }
  return { ...graph, nodes, initializers };
}
