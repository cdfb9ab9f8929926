import type { Attribute, Graph } from "./ir.ts";

/** Old names to new ones. */
type Names = ReadonlyMap<string, string>;

/** A list of names with new ones in the place of some. */
export const renameAll = (list: readonly string[], names: Names): string[] =>
  list.map((name) => names.get(name) ?? name);

/** A sub-graph whose references to the graphs around it follow new names; its own names hide them. */
function renameCaptured(graph: Graph, names: Names): Graph {
  const own = [
    ...graph.inputs.map((v) => v.name),
    ...graph.initializers.keys(),
    ...graph.nodes.flatMap((n) => n.outputs),
  ];
  const visible = new Map(names);
  for (const name of own) visible.delete(name);
  if (visible.size === 0) return graph;
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: renameAll(node.inputs, visible),
      attributes: renameInAttributes(node.attributes, visible),
    })),
    outputs: graph.outputs.map((v) => ({ ...v, name: visible.get(v.name) ?? v.name })),
  };
}

/** Attributes whose sub-graphs follow new names of the values around them. */
export const renameInAttributes = (attributes: Record<string, Attribute>, names: Names): Record<string, Attribute> =>
  Object.fromEntries(
    Object.entries(attributes).map(([key, a]) => [
      key,
      a.type === "graph"
        ? { type: "graph", value: renameCaptured(a.value, names) }
        : a.type === "graphs"
          ? { type: "graphs", value: a.value.map((graph) => renameCaptured(graph, names)) }
          : a,
    ]),
  );
