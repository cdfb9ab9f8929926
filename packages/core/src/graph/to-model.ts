import type { Graph, Model } from "../onnx/ir.ts";

/** A model around a graph of this engine: IR version 10, the given opset, and ONNX Runtime's own domain. */
export const toModel = (graph: Graph, opset: number, metadata: ReadonlyMap<string, string> = new Map()): Model => ({
  irVersion: 10,
  opsets: new Map([
    ["", opset],
    ["com.microsoft", 1],
  ]),
  producer: { name: "onnx-peft", version: "0.1.0" },
  metadata: new Map(metadata),
  graph,
});
