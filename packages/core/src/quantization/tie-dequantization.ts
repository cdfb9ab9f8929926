import { elementTypes, isFloating } from "../onnx/element-type.ts";
import type { Attribute, Graph, Node, TensorData } from "../onnx/ir.ts";
import { readNames, sortNodes } from "../onnx/structure.ts";
import { elementCount, tensorFrom } from "../onnx/tensor.ts";

/** Weights of fewer numbers (256 KB in float32) may be dequantised whenever the engine likes. */
const TIE_FROM = 65_536;

const carriers = new Set(["Transpose", "Cast", "Identity", "Reshape"]);
const int = (value: number): Attribute => ({ type: "int", value });

/**
 * A graph in which large weights are dequantised when the activation that they are multiplied by exists, and not all at
 * once: ONNX Runtime runs first what depends on nothing, and the float32 forms of all layers would lie in memory together.
 * The scales get a zero added that is computed from the activation; the numbers are the same to the bit. Left alone are
 * weights of products whose activation is quantised as well, which the engine computes in integers.
 */
export function tieDequantization(graph: Graph): Graph {
  const makers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const readers = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    for (const name of new Set(readNames(node))) readers.set(name, [...(readers.get(name) ?? []), node]);
  }
  const fed = new Set(graph.inputs.map((v) => v.name));
  const shown = new Set(graph.outputs.map((v) => v.name));
  const onlyReader = (name: string): Node | null => {
    const list = readers.get(name) ?? [];
    return list.length === 1 && !shown.has(name) ? (list[0] ?? null) : null;
  };
  const isQuantised = (name: string): boolean => {
    const maker = makers.get(name);
    return maker?.op === "DequantizeLinear" && !graph.initializers.has(maker.inputs[0] ?? "");
  };
  /** The activation beside a weight, at the end of a chain of nodes that only one node reads. */
  const activationBeside = (weight: string): string | null => {
    let name = weight;
    for (let depth = 0; depth < 8; depth++) {
      const reader = onlyReader(name);
      if (!reader) return null;
      const isCarrier = reader.domain === "" && carriers.has(reader.op) && reader.inputs[0] === name;
      if (!isCarrier) {
        const other = reader.inputs.find((input) => input !== name && (makers.has(input) || fed.has(input)));
        const type = graph.values.get(other ?? "")?.type;
        return other !== undefined && type && isFloating(type) && !isQuantised(other) ? other : null;
      }
      name = reader.outputs[0] ?? "";
    }
    return null;
  };
  const initializers = new Map(graph.initializers);
  const zeros = new Map<string, string>();
  const nodes: Node[] = [];
  const add = (op: string, inputs: string[], output: string, attributes: Node["attributes"] = {}): string => {
    nodes.push({ ...{ name: output, op, domain: "" }, inputs, outputs: [output], attributes, metadata: {} });
    return output;
  };
  const constant = (name: string, tensor: TensorData): string => {
    initializers.set(name, tensor);
    return name;
  };
  /** -0 in the given type, not available before `value` is. The same nodes as the builder's `after`. */
  const zeroBehind = (value: string, type: TensorData["type"]): string => {
    const key = `${value}:zero:${type}`;
    const known = zeros.get(key);
    if (known) return known;
    const flat = add("Reshape", [value, constant("tie:-1", tensorFrom("int64", [1], [-1]))], `${key}:flat`);
    const first = add("Gather", [flat, constant("tie:0", tensorFrom("int64", [1], [0]))], `${key}:first`);
    const never = add("Less", [first, first], `${key}:never`);
    const zero = add("Cast", [never], `${key}:positive`, { to: int(elementTypes[type].code) });
    zeros.set(key, add("Neg", [zero], key));
    return key;
  };
  for (const node of graph.nodes) {
    const [data, scales] = [graph.initializers.get(node.inputs[0] ?? ""), graph.initializers.get(node.inputs[1] ?? "")];
    const isLarge = node.op === "DequantizeLinear" && data && scales && elementCount(data.dims) >= TIE_FROM;
    const activation = isLarge ? activationBeside(node.outputs[0] ?? "") : null;
    if (activation === null || !scales) {
      nodes.push(node);
      continue;
    }
    const [name = "", scale = "", ...rest] = node.inputs;
    const tied = add("Add", [scale, zeroBehind(activation, scales.type)], `${node.outputs[0]}:scale`);
    nodes.push({ ...node, inputs: [name, tied, ...rest] });
  }
  if (zeros.size === 0) return graph;
  // A weight may stand before the activation that it waits for now.
  const sorted = sortNodes(nodes);
  return "order" in sorted ? { ...graph, nodes: sorted.order, initializers } : graph;
}
