import type { Graph, Node } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";

/**
 * The order in which ONNX Runtime's sequential executor runs the nodes of a file: depth first from the nodes that nobody
 * reads, the last of them first, and of a node's producers the last of the file first (GraphViewer and
 * Graph::ReverseDFSFrom in its sources). What its optimisers change comes on top.
 */
export function executionOrder(graph: Graph): Node[] {
  const producers = new Map<string, number>();
  graph.nodes.forEach((node, i) => {
    for (const name of node.outputs) if (name !== "") producers.set(name, i);
  });
  const inputs = graph.nodes.map((node) =>
    [...new Set([...readNames(node)].flatMap((name) => producers.get(name) ?? []))].sort((a, b) => a - b),
  );
  const isRead = new Uint8Array(graph.nodes.length);
  for (const list of inputs) for (const i of list) isRead[i] = 1;
  const order: Node[] = [];
  const visited = new Uint8Array(graph.nodes.length);
  // Entries: the node's number, or its complement once its producers are done.
  const stack = [...graph.nodes.keys()].filter((i) => isRead[i] === 0);
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    if (top < 0) {
      order.push(graph.nodes[~top] as Node);
      continue;
    }
    if (visited[top]) continue;
    visited[top] = 1;
    stack.push(~top);
    for (const i of inputs[top] as number[]) if (!visited[i]) stack.push(i);
  }
  return order;
}
