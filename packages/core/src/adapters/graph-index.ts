import type { ElementType } from "../onnx/element-type.ts";
import { intsAttribute } from "../onnx/infer/context.ts";
import type { Graph, Node } from "../onnx/ir.ts";
import { tiedDims } from "../onnx/tied.ts";
import { packedWeightOf } from "../quantization/packed-weight.ts";
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

const swapsMatrix = (node: Node, rank: number): boolean => {
  const perm = intsAttribute(node, "perm");
  return rank === 2 && (perm === null || perm === undefined || (perm[0] === 1 && perm[1] === 0));
};

/** Casts and transposes that a weight passes; a file with thousands in a row, for each of thousands of nodes, is hostile. */
export const longestChain = 16;

/** Whether an odd number of matrix transposes is among the steps; null when one of them moves other axes. */
function transposedBy(steps: readonly Node[], rank: number): boolean | null {
  let transposed = false;
  for (const step of steps) {
    if (step.op !== "Transpose") continue;
    if (!swapsMatrix(step, rank)) return null;
    transposed = !transposed;
  }
  return transposed;
}

/**
 * The weight behind input `i` of a node, through Identity, Cast, matrix transposes and ties: an initialiser, or what
 * DequantizeLinear makes of one. Null if there is none.
 */
export function operandOf(index: GraphIndex, node: Node, i: number): Operand | null {
  const through: Node[] = [];
  let name = node.inputs[i] ?? "";
  for (;;) {
    const tensor = index.graph.initializers.get(name);
    const producer = index.producers.get(name);
    const packed = !tensor && producer?.op === "DequantizeLinear" ? packedWeightOf(index.graph, producer) : null;
    if (tensor || packed) {
      const transposed = transposedBy(through, (tensor ?? packed)?.dims.length ?? 0);
      if (transposed === null) return null;
      return { node, index: i, initializer: packed?.data ?? name, transposed, ...(packed ? { packed } : {}) };
    }
    if (producer?.domain !== "") return null;
    if (!["Identity", "Cast", "Transpose"].includes(producer.op) && tiedDims(producer) === null) return null;
    if (through.push(producer) > longestChain) return null;
    name = producer.inputs[0] ?? "";
  }
}

/** Element type and dimensions of the weight behind an operand, as a float. */
export function weightBehind(
  index: GraphIndex,
  operand: Operand | null,
): { readonly type: ElementType; readonly dims: readonly number[] } | undefined {
  return operand ? (operand.packed ?? index.graph.initializers.get(operand.initializer)) : undefined;
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
