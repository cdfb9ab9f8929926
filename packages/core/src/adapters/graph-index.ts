import { intsAttribute } from "../onnx/infer/context.ts";
import type { Graph, Node, TensorData } from "../onnx/ir.ts";
import type { Operand } from "./site.ts";

/** Who makes and who reads each value of a graph. */
export interface GraphIndex {
  readonly graph: Graph;
  readonly producers: ReadonlyMap<string, Node>;
  /** Readers of a value, one entry per input that names it. */
  readonly consumers: ReadonlyMap<string, readonly Node[]>;
  /** Values that sub-graphs read or that are outputs of the graph: they must keep their names and contents. */
  readonly pinned: ReadonlySet<string>;
}

function capturedBy(node: Node): string[] {
  return Object.values(node.attributes).flatMap((attribute) => {
    const graphs = attribute.type === "graph" ? [attribute.value] : attribute.type === "graphs" ? attribute.value : [];
    return graphs.flatMap((graph) => [
      ...graph.nodes.flatMap((inner) => [...inner.inputs, ...capturedBy(inner)]),
      ...graph.outputs.map((v) => v.name),
    ]);
  });
}

export function indexGraph(graph: Graph): GraphIndex {
  const producers = new Map<string, Node>();
  const consumers = new Map<string, Node[]>();
  const pinned = new Set(graph.outputs.map((v) => v.name));
  for (const node of graph.nodes) {
    for (const name of node.outputs) if (name !== "") producers.set(name, node);
    for (const name of node.inputs) {
      const list = consumers.get(name);
      if (list) list.push(node);
      else consumers.set(name, [node]);
    }
    for (const name of capturedBy(node)) pinned.add(name);
  }
  return { graph, producers, consumers, pinned };
}

/** The only reader of a value that nothing else needs, or null. */
export function onlyConsumer(index: GraphIndex, name: string): Node | null {
  const readers = index.consumers.get(name) ?? [];
  return readers.length === 1 && !index.pinned.has(name) ? (readers[0] ?? null) : null;
}

const swapsMatrix = (node: Node, tensor: TensorData): boolean => {
  const perm = intsAttribute(node, "perm");
  return tensor.dims.length === 2 && (perm === null || perm === undefined || (perm[0] === 1 && perm[1] === 0));
};

/** Casts and transposes that a weight passes; a file with thousands in a row, for each of thousands of nodes, is hostile. */
const longestChain = 16;

/** The initialiser behind input `i` of a node, through Identity, Cast and matrix transposes; null if there is none. */
export function operandOf(index: GraphIndex, node: Node, i: number): Operand | null {
  const through: Node[] = [];
  let name = node.inputs[i] ?? "";
  for (;;) {
    const tensor = index.graph.initializers.get(name);
    if (tensor) {
      let transposed = false;
      for (const step of through) {
        if (step.op !== "Transpose") continue;
        if (!swapsMatrix(step, tensor)) return null;
        transposed = !transposed;
      }
      return { node, index: i, initializer: name, transposed };
    }
    const producer = index.producers.get(name);
    if (producer?.domain !== "" || !["Identity", "Cast", "Transpose"].includes(producer.op)) return null;
    if (through.push(producer) > longestChain) return null;
    name = producer.inputs[0] ?? "";
  }
}

/** Names of the values between an operand and its initialiser, the operand's own first. */
export function operandNames(index: GraphIndex, operand: Operand): string[] {
  const names: string[] = [];
  let name = operand.node.inputs[operand.index] ?? "";
  while (name !== "" && names.length <= longestChain) {
    names.push(name);
    if (name === operand.initializer) break;
    name = index.producers.get(name)?.inputs[0] ?? "";
  }
  return names;
}
