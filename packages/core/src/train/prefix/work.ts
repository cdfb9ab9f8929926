import { evaluateDim } from "../../onnx/dims.ts";
import type { Graph, Node } from "../../onnx/ir.ts";

/** Operators whose cost is a matrix product's: one multiplication per output number and number of an inner dimension. */
const products = new Set([
  ...["MatMul", "FusedMatMul", "Gemm", "MatMulInteger", "MatMulNBits", "MatMulBnb4", "DynamicQuantizeMatMul"],
  ...["MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "Einsum"],
]);
const convolutions = new Set(["Conv", "FusedConv", "ConvTranspose", "ConvInteger", "QLinearConv"]);
const layers = new Set(["LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention", "GroupQueryAttention"]);

/**
 * Multiplications of a node that is a product, for given sizes of the symbols; 0 for every other operator, which costs next to
 * nothing beside products. An estimate: inner dimensions that are not known count as 1.
 */
export function productWork(graph: Graph, node: Node, sizes: ReadonlyMap<string, number>): number {
  const isConvolution = convolutions.has(node.op);
  if (!isConvolution && !products.has(node.op) && !layers.has(node.op)) return 0;
  const shapeOf = (name: string | undefined): readonly number[] => {
    const shape = graph.initializers.get(name ?? "")?.dims ?? graph.values.get(name ?? "")?.shape ?? [];
    return shape.map((dim) => evaluateDim(dim, sizes) ?? 1);
  };
  const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
  const results = count(shapeOf(node.outputs[0]));
  if (!isConvolution) return results * (shapeOf(node.inputs[0]).at(-1) ?? 1);
  const weight = shapeOf(node.inputs[node.op === "QLinearConv" ? 3 : 1]);
  return results * (count(weight) / (weight[0] ?? 1));
}
