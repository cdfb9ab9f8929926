import type { ElementType } from "./element-type.ts";

/**
 * One dimension: a number, or a symbol. A symbol is a name ("batch") or a canonical expression over names as built by
 * `dims.ts` ("batch*sequence", "sequence+1"). Equal strings are equal sizes; nothing is known about different ones.
 */
export type Dim = number | string;
export type Shape = readonly Dim[];

export interface ValueType {
  readonly type: ElementType;
  readonly shape: Shape;
}

/** A named edge of the graph with everything that is known about it. */
export interface Value extends ValueType {
  readonly name: string;
}

/** Bytes that stay in a file until they are needed. `path` is absolute. */
export interface FileRange {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/** A constant: ONNX element type, dimensions, and little-endian bytes as a view or as a place in a file. */
export interface TensorData {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: Uint8Array | FileRange;
  /** Only for type "string"; `data` is then empty. */
  readonly strings?: readonly string[];
}

export type Attribute =
  | { readonly type: "float"; readonly value: number }
  | { readonly type: "int"; readonly value: number | bigint }
  | { readonly type: "string"; readonly value: string | Uint8Array }
  | { readonly type: "tensor"; readonly value: TensorData }
  | { readonly type: "graph"; readonly value: Graph }
  | { readonly type: "floats"; readonly value: readonly number[] }
  | { readonly type: "ints"; readonly value: readonly (number | bigint)[] }
  | { readonly type: "strings"; readonly value: readonly (string | Uint8Array)[] }
  | { readonly type: "tensors"; readonly value: readonly TensorData[] }
  | { readonly type: "graphs"; readonly value: readonly Graph[] };

/** An operator application. An absent optional input or output is the empty string. */
export interface Node {
  name: string;
  op: string;
  /** "" is the ONNX domain (also written "ai.onnx" in files). */
  domain: string;
  inputs: string[];
  outputs: string[];
  attributes: Record<string, Attribute>;
  /** Node metadata of the file (`pkg.torch.onnx.name_scopes` and the like). */
  metadata: Record<string, string>;
}

/**
 * The intermediate representation: ONNX semantics as plain data. Nodes are in topological order. `values` holds what is
 * known of every edge (declared types in a freshly read graph, all of them after inference).
 */
export interface Graph {
  name: string;
  nodes: Node[];
  inputs: Value[];
  outputs: Value[];
  initializers: Map<string, TensorData>;
  values: Map<string, ValueType>;
}

export interface Model {
  irVersion: number;
  /** Domain to version; "" is the ONNX domain. */
  opsets: Map<string, number>;
  producer: { name: string; version: string };
  metadata: Map<string, string>;
  /** Model-local functions of the file, already inlined by the reader. */
  graph: Graph;
}
