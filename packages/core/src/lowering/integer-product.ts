import { type GraphIndex, indexGraph, onlyConsumer } from "../adapters/graph-index.ts";
import type { Graph, Node } from "../onnx/ir.ts";

/** x -> DynamicQuantizeLinear -> MatMulInteger or ConvInteger -> Cast -> Mul by the product of both scales. */
export interface IntegerProduct {
  readonly quantiser: Node;
  /** The product of both scales. */
  readonly scale: Node;
  readonly cast: Node;
  /** The node that makes the result in float. */
  readonly last: Node;
  /** Name of the weight's scales. */
  readonly scales: string;
}

/** What stands around an integer operator whose inputs are x, the weight, and their zero points; null in another form. */
export function integerProduct(index: GraphIndex, node: Node): IntegerProduct | null {
  const [quantised = "", , zeroPoint = ""] = node.inputs;
  const quantiser = index.producers.get(quantised);
  const cast = onlyConsumer(index, node.outputs[0] ?? "");
  const last = cast?.op === "Cast" ? onlyConsumer(index, cast.outputs[0] ?? "") : null;
  if (quantiser?.op !== "DynamicQuantizeLinear" || quantiser.outputs[2] !== zeroPoint) return null;
  if (!cast || last?.op !== "Mul") return null;
  const scale = index.producers.get(last.inputs[last.inputs[0] === cast.outputs[0] ? 1 : 0] ?? "");
  const [, xScale = ""] = quantiser.outputs;
  if (scale?.op !== "Mul" || !scale.inputs.includes(xScale)) return null;
  return { quantiser, scale, cast, last, scales: scale.inputs[scale.inputs[0] === xScale ? 1 : 0] ?? "" };
}

const parts = new Set(["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"]);

/** The graph with other nodes in place of some, and without those parts of integer products that nobody reads any more. */
export function replaceProducts(graph: Graph, replacements: ReadonlyMap<Node, Node>): Graph {
  const { pinned, consumers } = indexGraph(graph);
  const read = new Set<string>(pinned);
  const kept: Node[] = [];
  // Backwards, as readers stand behind what they read.
  for (const node of graph.nodes.map((old) => replacements.get(old) ?? old).reverse()) {
    const wasRead = node.outputs.some((name) => consumers.has(name));
    if (parts.has(node.op) && wasRead && !node.outputs.some((name) => read.has(name))) continue;
    kept.push(node);
    for (const name of node.inputs) read.add(name);
  }
  return { ...graph, nodes: kept.reverse() };
}
