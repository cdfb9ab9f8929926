import { importGraph } from "../graph/import-graph.ts";
import type { Graph } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { decodeModel } from "../onnx/read.ts";
import type { GraphFile } from "./graph-file.ts";

/** A program's graph with the shapes of all values. */
export function shapedGraph({ bytes, externalDataFolder: folder }: GraphFile): { graph: Graph; opset: number } {
  const model = decodeModel(bytes, folder === undefined ? {} : { folder });
  const opset = opsetOf(model);
  const g = importGraph(model.graph, opset);
  for (const { name } of model.graph.outputs) g.output(g.value(name), name);
  // The nodes' order is the file's: it decides in which order they run.
  return { graph: { ...model.graph, values: g.finish().values }, opset };
}
