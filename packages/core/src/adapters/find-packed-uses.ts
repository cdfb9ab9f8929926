import { integerProduct } from "../lowering/integer-product.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Node } from "../onnx/ir.ts";
import { type PackedWeight, packedTensor, packedWeightOf } from "../quantization/packed-weight.ts";
import { type GraphIndex, onlyConsumer } from "./graph-index.ts";
import type { FloatProduct, Operand } from "./site.ts";
import { biasOperand, type FoundUse, useOf } from "./use-parts.ts";

const operand = (node: Node, index: number, packed: PackedWeight, product: FloatProduct): Operand => ({
  ...{ node, index, initializer: packed.data, transposed: false, packed, product },
});

/** A linear layer in one operator that reads its weight packed, as [out, in] or [in, out]. */
const fusedLinear =
  (operandLayout: FoundUse["operandLayout"], biasInput: number | null) =>
  (index: GraphIndex, node: Node): FoundUse | null => {
    const packed = packedWeightOf(index.graph, node);
    const input = node.inputs[0] ?? "";
    if (!packed || index.graph.initializers.has(input)) return null;
    const out = packed.dims[operandLayout === "out_in" ? 0 : 1] ?? 0;
    const hasBias = biasInput !== null && (node.inputs[biasInput] ?? "") !== "";
    const own = hasBias ? biasOperand(index, node, biasInput, out) : null;
    if (hasBias && !own) return null;
    const product = { node, op: "MatMul", input, ...(hasBias ? { biasInput } : {}) } as const;
    const weight = operand(node, 1, packed, product);
    return { kind: "linear", operandLayout, use: useOf(index, [node], input, weight, own, out) };
  };

/**
 * A layer in integer arithmetic: x to uint8 (DynamicQuantizeLinear), MatMulInteger or ConvInteger, Cast, and a Mul by the
 * product of both scales. The scales count per output.
 */
function integerUse(index: GraphIndex, node: Node, kind: "linear" | "conv"): FoundUse | null {
  const found = integerProduct(index, node);
  if (!found) return null;
  const { quantiser, scale, cast, last, scales } = found;
  const axis = kind === "linear" ? 1 : 0;
  const names = { data: node.inputs[1] ?? "", scales, zeroPoints: node.inputs[3] || null };
  const packed = packedTensor(index.graph, node.op, names, axis, 0);
  const rank = packed?.dims.length ?? 0;
  if (!packed || (kind === "linear" ? rank !== 2 : rank < 3)) return null;
  const input = quantiser.inputs[0] ?? "";
  const op = kind === "linear" ? "MatMul" : "Conv";
  const { attributes } = node;
  const weight = operand(node, 1, packed, { node: last, op, input, ...(kind === "conv" ? { attributes } : {}) });
  const nodes = [quantiser, scale, node, cast, last] as const;
  const [output = ""] = last.outputs;
  const use =
    kind === "linear"
      ? useOf(index, nodes, input, weight, null, packed.dims[axis] ?? 0)
      : { nodes, input, output, weight, bias: null };
  return { kind, operandLayout: kind === "linear" ? "in_out" : "out_in", use };
}

/** An embedding whose rows are dequantised after they are picked: Gather of integers, then DequantizeLinear with one scale. */
export function packedGather(index: GraphIndex, node: Node): FoundUse | null {
  const [data = "", indices = ""] = node.inputs;
  const dequantizer = onlyConsumer(index, node.outputs[0] ?? "");
  if (dequantizer?.op !== "DequantizeLinear" || dequantizer.inputs[0] !== node.outputs[0]) return null;
  if (intAttribute(node, "axis", 0) !== 0 || index.graph.initializers.has(indices)) return null;
  const names = { data, scales: dequantizer.inputs[1] ?? "", zeroPoints: dequantizer.inputs[2] || null };
  const packed = packedTensor(index.graph, dequantizer.op, names, 0, 0);
  if (packed?.dims.length !== 2 || packed.axis !== null) return null;
  const [output = ""] = dequantizer.outputs;
  const weight = operand(node, 0, packed, { node: dequantizer, op: "Gather", input: indices });
  const use = { nodes: [node, dequantizer], input: indices, output, weight, bias: null };
  return { kind: "embedding", operandLayout: "out_in", use };
}

/** An embedding in one operator that reads its table packed. */
function fusedEmbedding(index: GraphIndex, node: Node): FoundUse | null {
  const packed = packedWeightOf(index.graph, node);
  const [input = "", output = ""] = [node.inputs[1], node.outputs[0]];
  if (!packed || index.graph.initializers.has(input)) return null;
  const weight = operand(node, 0, packed, { node, op: "Gather", input });
  return { kind: "embedding", operandLayout: "out_in", use: { nodes: [node], input, output, weight, bias: null } };
}

/** Operators whose weight is packed. What DequantizeLinear makes of a weight is found where it is read. */
export const packedFinders: readonly [string, (index: GraphIndex, node: Node) => FoundUse | null][] = [
  ["com.microsoft::MatMulNBits", fusedLinear("out_in", 5)],
  ["com.microsoft::MatMulBnb4", fusedLinear("out_in", null)],
  ["com.microsoft::DynamicQuantizeMatMul", fusedLinear("in_out", 4)],
  ["MatMulInteger", (index, node) => integerUse(index, node, "linear")],
  ["ConvInteger", (index, node) => integerUse(index, node, "conv")],
  ["com.microsoft::GatherBlockQuantized", fusedEmbedding],
];
