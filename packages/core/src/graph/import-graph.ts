import type { Graph } from "../onnx/ir.ts";
import type { Builder } from "./builder.ts";
import { createBuilder } from "./builder.ts";

/** What may be changed while a graph is taken over. */
export interface ImportOptions {
  /** Called instead of adding a node as it is; return true when the node was replaced (its outputs must exist then). */
  replace?: (g: Builder, node: Graph["nodes"][number]) => boolean;
  /** Initialisers that become graph inputs of the same name (trainable leaves). */
  asInputs?: ReadonlySet<string>;
}

/** Takes a graph over into a builder, inferring every shape on the way. Outputs are not declared yet: see `g.output`. */
export function importGraph(graph: Graph, opset: number, options: ImportOptions = {}): Builder {
  const g = createBuilder(opset);
  for (const { name, type, shape } of graph.inputs) g.input(name, type, shape);
  for (const [name, tensor] of graph.initializers) {
    if (options.asInputs?.has(name)) g.input(name, tensor.type, tensor.dims);
    else g.initializer(name, tensor);
  }
  for (const node of graph.nodes) {
    if (!options.replace?.(g, node)) g.addNode({ ...node, inputs: [...node.inputs], outputs: [...node.outputs] });
  }
  return g;
}
