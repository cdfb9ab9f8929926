import type { Builder } from "../../graph/builder.ts";
import { isFloating } from "../../onnx/element-type.ts";
import type { Node, Value } from "../../onnx/ir.ts";

/** A model whose shapes are known, for looking around in it. */
export interface Walk {
  readonly g: Builder;
  /** The node that makes a value. */
  producer(name: string): Node | undefined;
  /** The nodes that read a value. */
  readers(name: string): readonly Node[];
}

export function walkOf(g: Builder): Walk {
  const readers = new Map<string, Node[]>();
  for (const node of g.nodes) {
    for (const name of new Set(node.inputs)) {
      const list = readers.get(name);
      if (list) list.push(node);
      else readers.set(name, [node]);
    }
  }
  return {
    g,
    producer: (name) => (name !== "" && g.has(name) ? g.producerOf(g.value(name)) : undefined),
    readers: (name) => readers.get(name) ?? [],
  };
}

/** Operators that move numbers without changing them; the first input is what they move. */
const moves = new Set(["Identity", "Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Expand"]);

export const isMove = (node: Node | undefined): node is Node => node?.domain === "" && moves.has(node.op);

/** What a value is before it is moved. */
export function unmoved(walk: Walk, name: string): string {
  let source = name;
  for (let node = walk.producer(source); isMove(node); node = walk.producer(source)) source = node.inputs[0] ?? "";
  return source;
}

/** True for one floating-point number. */
export const isNumber = ({ type, shape }: Value): boolean => isFloating(type) && shape.every((dim) => dim === 1);

/** A Mul or Div by one number: what is scaled, and the number. */
export function scaling(walk: Walk, node: Node): { readonly of: string; readonly by: string } | null {
  if (node.domain !== "" || (node.op !== "Mul" && node.op !== "Div")) return null;
  const [a = "", b = ""] = node.inputs;
  if (isNumber(walk.g.value(b))) return { of: a, by: b };
  return node.op === "Mul" && isNumber(walk.g.value(a)) ? { of: b, by: a } : null;
}

/**
 * The same function with every answer given once. Searches of bounded depth meet a value again on every way to it, and a file may
 * have as many ways as it likes.
 */
export function remembered<T>(search: (name: string, depth: number) => T): (name: string, depth: number) => T {
  const known = new Map<string, T>();
  return (name, depth) => {
    const key = `${depth}:${name}`;
    if (!known.has(key)) known.set(key, search(name, depth));
    return known.get(key) as T;
  };
}
