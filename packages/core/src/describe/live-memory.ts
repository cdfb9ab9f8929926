import { evaluateDim } from "../onnx/dims.ts";
import { byteLength } from "../onnx/element-type.ts";
import type { Graph, Node, ValueType } from "../onnx/ir.ts";

/** Operators whose result is a view of their first input. */
const views = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"]);
/** Operators that may write their result over an input of the same size that nobody reads any more. */
const inPlace = new Set([
  ...["Add", "Sub", "Mul", "Div", "Neg", "Abs", "Exp", "Sqrt", "Tanh", "Sigmoid", "Erf", "Relu", "HardSigmoid"],
  ...["Reciprocal", "Log", "Clip", "Softmax", "Min", "Max", "Pow"],
]);

interface Block {
  readonly bytes: number;
  /** How many values that are still to be read lie in it. */
  readers: number;
}

export interface LiveMemory {
  /** Highest sum of intermediates, inputs and outputs that exist at one time. */
  readonly peakBytes: number;
  /** Name of the node during which that is so. */
  readonly peakNode: string;
  /** Values whose size does not follow from the given symbols; counted as nothing. */
  readonly unknownSizes: readonly string[];
}

function sizeOf(type: ValueType | undefined, sizes: ReadonlyMap<string, number>): number | null {
  if (!type) return null;
  let count = 1;
  for (const dim of type.shape) {
    const size = evaluateDim(dim, sizes);
    if (size === null) return null;
    count *= size;
  }
  return byteLength(type.type, count);
}

/**
 * Memory of one run without weights: goes through the nodes in order, frees every value after its last reader, lets views
 * share memory and element-wise operators write in place, as ONNX Runtime does with memory patterns off. The engine may
 * choose another order, so this is an estimate.
 * @param sizes values of the symbols in the graph's shapes.
 */
export function liveMemory(graph: Graph, sizes: ReadonlyMap<string, number>): LiveMemory {
  const reads = new Map<string, number>();
  for (const node of graph.nodes) for (const name of node.inputs) reads.set(name, (reads.get(name) ?? 0) + 1);
  const outputs = new Set(graph.outputs.map((v) => v.name));
  const blocks = new Map<string, Block>();
  const unknownSizes: string[] = [];
  let live = 0;
  let [peakBytes, peakNode] = [0, ""];
  const allocate = (name: string, type: ValueType | undefined): void => {
    const bytes = sizeOf(type, sizes);
    if (bytes === null) unknownSizes.push(name);
    const kept = outputs.has(name) ? 1 : 0;
    blocks.set(name, { bytes: bytes ?? 0, readers: (reads.get(name) ?? 0) + kept });
    live += bytes ?? 0;
  };
  const share = (name: string, block: Block): void => {
    block.readers += (reads.get(name) ?? 0) + (outputs.has(name) ? 1 : 0);
    blocks.set(name, block);
  };
  /** The input whose memory the first output may take. */
  const reusable = (node: Node): Block | undefined => {
    const wanted = sizeOf(graph.values.get(node.outputs[0] ?? ""), sizes);
    const first = blocks.get(node.inputs[0] ?? "");
    if (views.has(node.op)) return first;
    if (!inPlace.has(node.op)) return undefined;
    return node.inputs
      .map((name) => blocks.get(name))
      .find((b) => b !== undefined && b.readers === 1 && b.bytes === wanted);
  };
  for (const input of graph.inputs) {
    allocate(input.name, input);
    const block = blocks.get(input.name);
    if (block) block.readers += 1; // the caller holds its feeds
  }
  for (const node of graph.nodes) {
    node.outputs.forEach((name, i) => {
      if (name === "") return;
      const block = i === 0 && node.domain === "" ? reusable(node) : undefined;
      if (block) share(name, block);
      else allocate(name, graph.values.get(name));
    });
    if (live > peakBytes) [peakBytes, peakNode] = [live, node.name];
    const release = (block: Block | undefined): void => {
      if (block && block.readers === 0) live -= block.bytes;
    };
    for (const name of node.inputs) {
      const block = blocks.get(name);
      if (!block) continue;
      block.readers -= 1;
      release(block);
    }
    for (const name of node.outputs) if ((reads.get(name) ?? 0) === 0 && !outputs.has(name)) release(blocks.get(name));
  }
  return { peakBytes, peakNode, unknownSizes };
}
