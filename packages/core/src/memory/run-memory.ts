import { isDropoutMask } from "../graph/dropout.ts";
import { evaluateDim } from "../onnx/dims.ts";
import { byteLength } from "../onnx/element-type.ts";
import type { Graph, ValueType } from "../onnx/ir.ts";
import { type Arena, type Chunk, createArena } from "./arena.ts";
import { executionOrder } from "./execution-order.ts";
import { inPlace, planBuffers, views } from "./plan-buffers.ts";

export interface RunMemory {
  /** Highest sum of intermediates, inputs and outputs that exist at one time. */
  readonly peakBytes: number;
  /** Name of the node during which that is so. */
  readonly peakNode: string;
  /** What the engine's arena keeps for intermediates and outputs, gaps included. */
  readonly arenaBytes: number;
  /** Fed tensors, which the caller holds. */
  readonly feedBytes: number;
  /** Values whose size does not follow from the given symbols; counted as nothing. */
  readonly unknownSizes: readonly string[];
}

function sizeOf({ type, shape }: ValueType, sizes: ReadonlyMap<string, number>): number | null {
  let count = 1;
  for (const dim of shape) {
    const size = evaluateDim(dim, sizes);
    if (size === null) return null;
    count *= size;
  }
  return byteLength(type, count);
}

/**
 * Bytes of all values as far as they are known. The source of a view is as large as the view, an unknown operand of an
 * element-wise operator as large as the result. Masks of dropout are parts of one pool and take nothing.
 */
function valueBytes(graph: Graph, sizes: ReadonlyMap<string, number>): Map<string, number> {
  const bytes = new Map<string, number>();
  const learn = (name: string, type: ValueType): void => {
    const size = sizeOf(type, sizes);
    if (size !== null) bytes.set(name, size);
  };
  for (const [name, type] of graph.values) learn(name, type);
  for (const value of [...graph.inputs, ...graph.outputs]) learn(value.name, value);
  for (const { name } of graph.inputs) if (isDropoutMask(name)) bytes.set(name, 0);
  for (const node of [...graph.nodes].reverse()) {
    const result = bytes.get(node.outputs[0] ?? "");
    if (result === undefined || !(views.has(node.op) || inPlace.has(node.op))) continue;
    for (const name of views.has(node.op) ? node.inputs.slice(0, 1) : node.inputs) {
      if (!bytes.has(name) && !graph.initializers.has(name)) bytes.set(name, result);
    }
  }
  return bytes;
}

/**
 * Memory of one run without weights: the engine's order of nodes, its plan of shared buffers, and what its arena makes of them.
 * @param sizes values of the symbols in the graph's shapes.
 * @param arena of the session, with the traces of earlier runs; default a new one.
 */
export function runMemory(graph: Graph, sizes: ReadonlyMap<string, number>, arena: Arena = createArena()): RunMemory {
  const bytes = valueBytes(graph, sizes);
  const order = executionOrder(graph);
  const buffers = planBuffers(graph, order, (name) => bytes.get(name));
  const begins = order.map((): typeof buffers => []);
  const ends = order.map((): typeof buffers => []);
  for (const buffer of buffers) {
    if (buffer.fed || buffer.bytes === 0) continue;
    begins[buffer.from]?.push(buffer);
    ends[buffer.to]?.push(buffer);
  }
  const feedBytes = buffers.reduce((sum, { fed, bytes: size }) => sum + (fed ? size : 0), 0);
  const chunks = new Map<object, Chunk>();
  let live = feedBytes;
  let [peakBytes, peakNode] = [feedBytes, ""];
  order.forEach((node, at) => {
    for (const buffer of begins[at] ?? []) {
      live += buffer.bytes;
      chunks.set(buffer, arena.allocate(buffer.bytes));
    }
    if (live > peakBytes) [peakBytes, peakNode] = [live, node.name];
    for (const buffer of ends[at] ?? []) {
      live -= buffer.bytes;
      const chunk = chunks.get(buffer);
      if (chunk) arena.release(chunk);
    }
  });
  const named = [...graph.inputs.map((v) => v.name), ...order.flatMap((node) => node.outputs)];
  const unknownSizes = named.filter((name) => name !== "" && !bytes.has(name));
  return { peakBytes, peakNode, arenaBytes: arena.touchedBytes(), feedBytes, unknownSizes };
}
