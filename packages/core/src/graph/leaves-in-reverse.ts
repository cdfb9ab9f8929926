import type { Graph, Node } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";

/**
 * The same graph in an order that lets ONNX Runtime free activations early. It runs nodes depth first from those that
 * nobody reads, the last one of the file first: the gradient of an upper layer's weight, written before what lies below it,
 * would be computed after the whole backward pass, and everything it reads would live until then. So the nodes that nobody
 * reads, each after what only names it, go to the end, the last one first.
 */
export function leavesInReverse(graph: Graph): Graph {
  const readers = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    for (const name of readNames(node)) readers.set(name, [...(readers.get(name) ?? []), node]);
  }
  const readersOf = (node: Node): Node[] => node.outputs.flatMap((name) => readers.get(name) ?? []);
  const isLeaf = (node: Node): boolean => readersOf(node).length === 0;
  // ONNX Runtime removes an Identity behind an output, whose producer becomes the leaf.
  const isNamedOnly = (node: Node): boolean => readersOf(node).every((n) => n.op === "Identity" && isLeaf(n));
  const body: Node[] = [];
  const groups: Node[][] = [];
  const done = new Set<Node>();
  for (const node of graph.nodes) {
    if (done.has(node)) continue;
    if (!isNamedOnly(node)) {
      body.push(node);
      continue;
    }
    const group = [node, ...new Set(readersOf(node))];
    for (const member of group) done.add(member);
    groups.push(group);
  }
  return { ...graph, nodes: [...body, ...groups.reverse().flat()] };
}
