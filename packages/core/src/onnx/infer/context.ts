import { PeftError } from "../../errors.ts";
import { broadcastDim } from "../dims.ts";
import type { ElementType } from "../element-type.ts";
import { elementTypeOf } from "../element-type.ts";
import type { Attribute, Dim, Node, Shape, TensorData, Value, ValueType } from "../ir.ts";

/** What an inference function may look at. It returns the type and shape of each output. */
export interface InferContext {
  readonly node: Node;
  readonly opset: number;
  readonly inputs: readonly (Value | null)[];
  /** Contents of a small integer input, as far as known (numbers and symbols), else null. */
  ints(index: number): readonly Dim[] | null;
  /** Contents of a constant input, else null. */
  tensor(index: number): TensorData | null;
  /** A new symbol for a size about which nothing is known. */
  fresh(): string;
}

export type Infer = (c: InferContext) => ValueType[];

export function fail(c: InferContext, message: string): never {
  const shown = c.inputs.slice(0, 8).map((v) => (v ? `${v.type}[${v.shape.join(", ").slice(0, 200)}]` : "-"));
  const inputs = [...shown, ...(c.inputs.length > 8 ? [`and ${c.inputs.length - 8} more`] : [])].join(", ");
  throw new PeftError("SHAPE_INFERENCE", `${c.node.op} "${c.node.name}" with inputs (${inputs}): ${message}`);
}

export function input(c: InferContext, index: number): Value {
  const value = c.inputs[index];
  return value ?? fail(c, `input ${index} is missing.`);
}

/** Element `index` of a list that is known to be long enough. */
export function at<T>(list: readonly T[], index: number): T {
  const item = list[index < 0 ? list.length + index : index];
  if (item === undefined) throw new PeftError("INDEX", `Index ${index} is outside a list of ${list.length}.`);
  return item;
}

export function intAttribute(node: Node, name: string, fallback: number): number {
  const a = node.attributes[name];
  return a?.type === "int" ? Number(a.value) : fallback;
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  const a = node.attributes[name];
  return a?.type === "float" ? a.value : fallback;
}

export function intsAttribute(node: Node, name: string): number[] | null {
  const a = node.attributes[name];
  return a?.type === "ints" ? a.value.map(Number) : null;
}

export function stringAttribute(node: Node, name: string, fallback: string): string {
  const a: Attribute | undefined = node.attributes[name];
  return a?.type === "string" && typeof a.value === "string" ? a.value : fallback;
}

export function typeAttribute(node: Node, name: string, fallback: ElementType): ElementType {
  const code = intAttribute(node, name, 0);
  return code === 0 ? fallback : elementTypeOf(code, `attribute ${name} of ${node.op} "${node.name}"`);
}

/** A possibly negative axis as 0..rank-1. */
export function axisOf(c: InferContext, axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (positive < 0 || positive >= rank) fail(c, `axis ${axis} is outside rank ${rank}.`);
  return positive;
}

/** Shape of an element-wise result; NumPy broadcasting over numbers and symbols. */
export function broadcastShapes(shapes: readonly Shape[], fresh: () => string): Dim[] | null {
  const rank = shapes.reduce((most, { length }) => Math.max(most, length), 0);
  const result: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    let dim: Dim = 1;
    for (const shape of shapes) {
      const own = shape[axis - (rank - shape.length)];
      if (own === undefined) continue;
      const both = broadcastDim(dim, own);
      if (both === null && typeof dim === "number" && typeof own === "number") return null;
      dim = both ?? fresh();
    }
    result.push(dim);
  }
  return result;
}

export function broadcast(c: InferContext, shapes: readonly Shape[]): Dim[] {
  return broadcastShapes(shapes, c.fresh) ?? fail(c, "shapes cannot be broadcast together.");
}

/** The same function for a list of operators, with their names kept in the type. */
export const forAll = <const K extends string>(names: readonly K[], infer: Infer): Record<K, Infer> =>
  Object.fromEntries(names.map((name) => [name, infer])) as Record<K, Infer>;
