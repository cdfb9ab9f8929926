import { elementTypes } from "../onnx/element-type.ts";
import type { Graph, Node, ValueType } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";

/** Operators whose result is a view of their first input. */
export const views = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"]);
/** Operators that may write their result over an input of the same shape that nobody reads any more. */
export const inPlace = new Set([
  ...["Add", "Sub", "Mul", "Div", "Neg", "Abs", "Exp", "Sqrt", "Tanh", "Sigmoid", "Erf", "Relu", "HardSigmoid"],
  ...["Reciprocal", "Log", "Clip", "Softmax", "Min", "Max", "Pow", "ScatterElements", "ScatterND"],
]);

/** Memory that values lie in, one after another. */
export interface Buffer {
  readonly bytes: number;
  /** Place in the order at which it is asked for, and after which it is given back. */
  readonly from: number;
  to: number;
  /** The caller holds it. */
  readonly fed: boolean;
}

interface Planned extends Buffer {
  readers: number;
}

/** Two values fit into one buffer when their dimensions are known to be equal and their elements equally large. */
const shapeKey = ({ type, shape }: ValueType): string => `${elementTypes[type].bits}:${shape.join(",")}`;

/**
 * Which values share memory, as ONNX Runtime plans it (allocation_planner.cc): a view lies in its source; an element-wise
 * result over an operand of the same shape whose last reader it is; any other one in the buffer that was freed last of those
 * of its shape. Between two such uses a buffer is not given back, so equal shapes cost memory.
 * @param order in which the nodes run.
 * @param bytesOf a value; undefined counts as nothing.
 */
export function planBuffers(
  graph: Graph,
  order: readonly Node[],
  bytesOf: (name: string) => number | undefined,
): Buffer[] {
  const reads = new Map<string, number>();
  for (const node of order) for (const name of readNames(node)) reads.set(name, (reads.get(name) ?? 0) + 1);
  const outputs = new Set(graph.outputs.map((v) => v.name));
  const buffers: Planned[] = [];
  const bufferOf = new Map<string, Planned>();
  const shapeOf = new Map<Planned, string>();
  /** Freed buffers by shape, the last one at the end. */
  const freed = new Map<string, Planned[]>();
  const readersOf = (name: string): number => (reads.get(name) ?? 0) + (outputs.has(name) ? 1 : 0);
  const keyOf = (name: string): string | null => {
    const type = graph.values.get(name);
    return type && type.shape.length > 0 ? shapeKey(type) : null;
  };
  const create = (name: string, from: number, fed = false): void => {
    const buffer: Planned = { bytes: bytesOf(name) ?? 0, from, to: order.length - 1, fed, readers: readersOf(name) };
    buffers.push(buffer);
    bufferOf.set(name, buffer);
    const key = keyOf(name);
    if (key !== null) shapeOf.set(buffer, key);
  };
  const share = (name: string, buffer: Planned): void => {
    buffer.readers += readersOf(name);
    bufferOf.set(name, buffer);
  };
  const release = (name: string, at: number): void => {
    const buffer = bufferOf.get(name);
    if (!buffer || buffer.readers > 0 || buffer.fed) return;
    buffer.to = at;
    const key = shapeOf.get(buffer);
    if (key === undefined) return;
    const list = freed.get(key);
    if (list) list.push(buffer);
    else freed.set(key, [buffer]);
  };
  for (const { name } of graph.inputs) {
    create(name, 0, true);
    share(name, Object.assign(bufferOf.get(name) as Planned, { readers: 1 })); // the caller is a reader too
  }
  order.forEach((node, at) => {
    node.outputs.forEach((name, i) => {
      if (name === "") return;
      const source = i === 0 && node.domain === "" && !outputs.has(name) ? reused(node, name) : undefined;
      const key = keyOf(name);
      const old = source ?? (key === null || outputs.has(name) ? undefined : freed.get(key)?.pop());
      if (old) share(name, old);
      else create(name, at);
    });
    for (const name of readNames(node)) {
      const buffer = bufferOf.get(name);
      if (!buffer) continue;
      buffer.readers -= 1;
      release(name, at);
    }
    for (const name of node.outputs) if (name !== "" && readersOf(name) === 0) release(name, at);
  });
  return buffers;

  /** The input whose memory the first output takes. */
  function reused(node: Node, output: string): Planned | undefined {
    if (views.has(node.op)) return bufferOf.get(node.inputs[0] ?? "");
    if (!inPlace.has(node.op)) return undefined;
    const wanted = keyOf(output);
    const found = node.inputs.find((name) => bufferOf.get(name)?.readers === 1 && keyOf(name) === wanted);
    return found === undefined ? undefined : bufferOf.get(found);
  }
}
