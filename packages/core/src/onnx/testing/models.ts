import type { Attribute, Graph, Model, Node, Value } from "../ir.ts";

/** Builders of tiny models for tests; everything that a test does not name has a neutral value. */
export const value = (name: string, shape: Value["shape"], type: Value["type"] = "float32"): Value => ({
  name,
  type,
  shape,
});

export const node = (
  op: string,
  inputs: string[],
  outputs: string[],
  attributes: Record<string, Attribute> = {},
  extra: Partial<Node> = {},
): Node => ({ name: `${op}_${outputs[0]}`, op, domain: "", inputs, outputs, attributes, metadata: {}, ...extra });

export const graph = (parts: Partial<Graph>): Graph => ({
  name: "test",
  nodes: [],
  inputs: [],
  outputs: [],
  initializers: new Map(),
  values: new Map(),
  ...parts,
});

export const model = (parts: Partial<Graph>, extra: Partial<Model> = {}): Model => ({
  irVersion: 8,
  opsets: new Map([["", 17]]),
  producer: { name: "onnx-peft", version: "test" },
  metadata: new Map(),
  graph: graph(parts),
  ...extra,
});
