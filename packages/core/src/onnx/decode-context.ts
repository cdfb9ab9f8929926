import type { TensorContext } from "./decode-tensor.ts";
import type { Graph, Node } from "./ir.ts";
import type { Problem } from "./problems.ts";

/** State of one decoding. */
export interface DecodeContext extends TensorContext {
  /** Structural defects found so far; thrown together at the end. */
  readonly problems: Problem[];
  /** How often each symbol for an unknown dimension was handed out. */
  readonly symbols: Map<string, number>;
  /** Attributes that stand for an attribute of the enclosing function: attribute name to the function's name for it. */
  readonly references: Map<Node, Map<string, string>>;
  /** `overload` of nodes that call a function. */
  readonly overloads: Map<Node, string>;
  /** Decodes the graph of an attribute. */
  readonly subgraph: (start: number, end: number, path: string, depth: number) => Graph;
  nodeCount: number;
}

/** "ai.onnx" is the other spelling of the default domain. */
export const normalDomain = (domain: string): string => (domain === "ai.onnx" ? "" : domain);

/** A symbol that no other unknown dimension has: names of values may repeat in sibling sub-graphs. */
export function freshSymbol(symbols: Map<string, number>, name: string, axis: number): string {
  const base = `?${name}.${axis}`;
  const count = symbols.get(base) ?? 0;
  symbols.set(base, count + 1);
  return count === 0 ? base : `${base}??${count}`;
}
