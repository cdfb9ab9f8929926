import { symbolFrom } from "../onnx/dims.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import type { Builder } from "./builder.ts";
import { createBuilder } from "./builder.ts";
import { inlineGraph } from "./import-nodes.ts";

/** What may be changed while a graph is taken over. */
export interface ImportOptions {
  /** Called once the inputs are declared: may declare more, and returns what nodes read in the place of some of them. */
  prepare?: (g: Builder) => ReadonlyMap<string, Value>;
  /** Begins the names of everything that is added. */
  prefix?: string;
  /** Called instead of adding a node as it is; return true when the node was replaced (its outputs must exist then). */
  replace?: (g: Builder, node: Graph["nodes"][number]) => boolean;
  /** Initialisers that become graph inputs of the same name (trainable leaves). */
  asInputs?: ReadonlySet<string>;
  /** Turns the graph's Dropout nodes, and those a method adds, into masked ones (see dropout.ts). Default false. */
  training?: boolean;
}

/** Takes a graph over into a builder, inferring every shape on the way. Outputs are not declared yet: see `g.output`. */
export function importGraph(graph: Graph, opset: number, options: ImportOptions = {}): Builder {
  const g = createBuilder(opset);
  for (const node of graph.nodes) g.reserve(node.outputs);
  for (const { name, type, shape } of graph.inputs) {
    // An input with a default cannot be fed from JavaScript (it is missing from the session's inputs): it is a constant.
    if (graph.initializers.has(name)) continue;
    g.input(
      name,
      type,
      shape.map((dim) => (typeof dim === "string" ? symbolFrom(dim) : dim)),
    );
  }
  const constants = new Map(graph.initializers);
  for (const name of options.asInputs ?? []) {
    const tensor = constants.get(name);
    if (!tensor) continue;
    g.input(name, tensor.type, tensor.dims);
    constants.delete(name);
  }
  g.setTraining(options.training ?? false);
  const bindings = options.prepare?.(g) ?? new Map<string, Value>();
  inlineGraph(g, { ...graph, initializers: constants, outputs: [] }, bindings, options);
  return g;
}
