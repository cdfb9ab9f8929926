import { symbolFrom } from "../onnx/dims.ts";
import type { Graph, TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import type { Builder } from "./builder.ts";
import { createBuilder } from "./builder.ts";
import { isIdleDropout } from "./prune.ts";

/** What may be changed while a graph is taken over. */
export interface ImportOptions {
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
  for (const [name, tensor] of graph.initializers) {
    if (options.asInputs?.has(name)) g.input(name, tensor.type, tensor.dims);
    else g.initializer(name, tensor);
  }
  g.setTraining(options.training ?? false);
  for (const node of graph.nodes) {
    if (options.training && isIdleDropout(node)) {
      const [x, ratio] = [g.value(node.inputs[0] ?? ""), g.initializers.get(node.inputs[1] ?? "")];
      const attribute = node.attributes["ratio"];
      const p = ratio ? (toFloat32Array(ratio)[0] ?? 0.5) : attribute?.type === "float" ? attribute.value : 0.5;
      g.op("Identity", [g.dropout(x, roundProbability(p))], {}, { outputs: [node.outputs[0] ?? ""] });
      continue;
    }
    const constant = constantOf(node);
    if (constant) g.initializer(node.outputs[0] ?? "", constant);
    else if (!options.replace?.(g, node)) g.addNode({ ...node, inputs: [...node.inputs], outputs: [...node.outputs] });
  }
  return g;
}

/** The tensor of a Constant node. As an initialiser its contents are known where shapes are computed from them. */
function constantOf({ op, domain, attributes }: Graph["nodes"][number]): TensorData | null {
  if (op !== "Constant" || domain !== "") return null;
  const [value] = Object.values(attributes);
  switch (value?.type) {
    case "tensor":
      return value.value;
    case "int":
      return tensorFrom("int64", [], [Number(value.value)]);
    case "ints":
      return tensorFrom("int64", [value.value.length], value.value.map(Number));
    case "float":
      return tensorFrom("float32", [], [value.value]);
    case "floats":
      return tensorFrom("float32", [value.value.length], value.value);
    default:
      return null;
  }
}

/** 0.1 is stored as 0.10000000149 in float32; equal probabilities share a pool of masks. */
const roundProbability = (p: number): number => Number(p.toPrecision(6));
