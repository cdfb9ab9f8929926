import { byteLength, type ElementType, isFloating } from "../onnx/element-type.ts";
import type { Model } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";

/** Operators that hold or make compressed weights or integer products, and what a file with them is called. */
const quantised: Readonly<Record<string, string>> = {
  MatMulNBits: "block-wise integers (MatMulNBits)",
  MatMulBnb4: "4-bit codes (MatMulBnb4)",
  GatherBlockQuantized: "block-wise integers (GatherBlockQuantized)",
  DynamicQuantizeMatMul: "dynamic int8",
  MatMulInteger: "dynamic int8",
  ConvInteger: "dynamic int8",
  QLinearMatMul: "static int8",
  QLinearConv: "static int8",
};

/**
 * What the weights are stored as: the floating type that holds most of them, and the quantisation if there is one.
 * @example
 * precisionOf(model); // "float32", "float16", "dynamic int8, rest float32"
 */
export function precisionOf({ graph }: Model): string {
  const bytes = new Map<ElementType, number>();
  for (const { type, dims } of graph.initializers.values()) {
    bytes.set(type, (bytes.get(type) ?? 0) + byteLength(type, elementCount(dims)));
  }
  const floating = [...bytes].filter(([type]) => isFloating(type)).sort((a, b) => b[1] - a[1])[0]?.[0] ?? "float32";
  const names = new Set<string>();
  for (const { op } of graph.nodes) {
    const name = Object.hasOwn(quantised, op) ? quantised[op] : undefined;
    if (name) names.add(name);
  }
  if (names.size === 0 && graph.nodes.some((n) => n.op === "DequantizeLinear")) {
    names.add(graph.nodes.some((n) => n.op === "QuantizeLinear") ? "QDQ integers" : "integers (DequantizeLinear)");
  }
  return names.size === 0 ? floating : `${[...names].sort().join(" and ")}, rest ${floating}`;
}

/** Who wrote the file, as far as it shows: the exporter, and an optimiser or quantiser that worked on it later. */
export function exporterOf({ graph, producer }: Model): string {
  const isDynamo = graph.nodes.some((n) => n.metadata["pkg.torch.onnx.name_scopes"] !== undefined);
  const isTorchScript =
    graph.nodes.some((n) => n.name.startsWith("/")) ||
    [...graph.initializers.keys()].some((name) => name.startsWith("onnx::"));
  const origin = isDynamo ? "PyTorch (dynamo)" : isTorchScript ? "PyTorch (TorchScript)" : null;
  const own = `${producer.name} ${producer.version}`.trim();
  if (origin === null) return own === "" ? "unknown" : own;
  return producer.name === "pytorch"
    ? `${origin} ${producer.version}`.trim()
    : own === ""
      ? origin
      : `${origin}, then ${own}`;
}
