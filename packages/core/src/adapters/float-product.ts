import type { Graph, Node } from "../onnx/ir.ts";
import { type GraphIndex, indexGraph } from "./graph-index.ts";
import type { FloatProduct } from "./site.ts";

const named = (
  node: Node,
  op: string,
  inputs: string[],
  output: string,
  attributes: Node["attributes"] = {},
): Node => ({
  ...{ name: node.name, op, domain: "", inputs, outputs: [output], attributes, metadata: node.metadata },
});

/**
 * The nodes that compute with a floating-point weight what `node` (the product's node, or a copy of it) computed with a
 * packed one: MatMul with its bias added, Gather, or Conv. Further outputs do not occur.
 */
export function floatProduct(product: FloatProduct, node: Node, weight: string): Node[] {
  const [output = ""] = node.outputs;
  if (product.op === "Gather") {
    return [named(node, "Gather", [weight, product.input], output, { axis: { type: "int", value: 0 } })];
  }
  if (product.op === "Conv") {
    return [named(node, "Conv", [product.input, weight], output, product.attributes)];
  }
  const bias = product.biasInput === undefined ? "" : (node.inputs[product.biasInput] ?? "");
  if (bias === "") return [named(node, "MatMul", [product.input, weight], output)];
  const unbiased = `${output}:product`;
  return [
    named(node, "MatMul", [product.input, weight], unbiased),
    { ...named(node, "Add", [unbiased, bias], output), name: `${node.name}/bias` },
  ];
}

/** Puts the float product in place of the packed one, in the graph itself. */
export function replaceProduct(graph: Graph, product: FloatProduct, weight: string): void {
  const at = graph.nodes.indexOf(product.node);
  if (at >= 0) graph.nodes.splice(at, 1, ...floatProduct(product, product.node, weight));
}

/** Takes nodes and initialisers out of the graph that nobody reads any more, those of `before` that were read excepted. */
export function dropUnread(graph: Graph, before: GraphIndex): void {
  for (;;) {
    const { consumers, pinned } = indexGraph(graph);
    const isRead = (name: string): boolean => consumers.has(name) || pinned.has(name);
    const wasRead = (name: string): boolean => before.consumers.has(name);
    const nodes = graph.nodes.filter(({ outputs }) => outputs.some(isRead) || !outputs.some(wasRead));
    for (const name of [...graph.initializers.keys()]) {
      if (!isRead(name) && wasRead(name)) graph.initializers.delete(name);
    }
    if (nodes.length === graph.nodes.length) return;
    graph.nodes.splice(0, graph.nodes.length, ...nodes);
  }
}
