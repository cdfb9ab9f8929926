import { isFloating } from "../onnx/element-type.ts";
import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Node, TensorData } from "../onnx/ir.ts";
import type { GraphIndex } from "./graph-index.ts";
import { onlyConsumer, operandOf } from "./graph-index.ts";
import type { Operand, SiteKind, SiteUse } from "./site.ts";

/** A use of a weight, before uses of the same module are brought together. */
export interface FoundUse {
  readonly kind: SiteKind;
  readonly use: SiteUse;
  /** How the operand is read: a matrix as [out, in] or [in, out]; anything else as it is. */
  readonly operandLayout: "out_in" | "in_out";
}

const tensorOf = (index: GraphIndex, operand: Operand | null): TensorData | undefined =>
  operand ? index.graph.initializers.get(operand.initializer) : undefined;

/** Operand `i` when it is a floating-point constant of the given rank. */
function weightOperand(index: GraphIndex, node: Node, i: number, rank: (r: number) => boolean): Operand | null {
  const operand = operandOf(index, node, i);
  const tensor = tensorOf(index, operand);
  return tensor && isFloating(tensor.type) && rank(tensor.dims.length) ? operand : null;
}

/** Operand `i` when it is a constant with `size` numbers along the last axis and nowhere else. */
function biasOperand(index: GraphIndex, node: Node, i: number, size: number): Operand | null {
  const operand = weightOperand(index, node, i, (r) => r >= 1);
  const dims = tensorOf(index, operand)?.dims ?? [];
  return dims.at(-1) === size && dims.every((d, axis) => axis === dims.length - 1 || d === 1) ? operand : null;
}

/** The Add of a bias behind `node`, when nothing else reads what `node` makes. */
function biasBehind(index: GraphIndex, node: Node, size: number): { node: Node; bias: Operand } | null {
  const made = node.outputs[0] ?? "";
  const add = onlyConsumer(index, made);
  if (add?.op !== "Add" || add.domain !== "") return null;
  const bias = biasOperand(index, add, add.inputs[0] === made ? 1 : 0, size);
  return bias ? { node: add, bias } : null;
}

function useOf(
  index: GraphIndex,
  node: Node,
  input: string,
  weight: Operand,
  own: Operand | null,
  size: number,
): SiteUse {
  const behind = own ? null : biasBehind(index, node, size);
  const nodes = behind ? [node, behind.node] : [node];
  const output = (behind?.node ?? node).outputs[0] ?? "";
  return { nodes, input, output, weight, bias: own ?? behind?.bias ?? null };
}

function linearUse(index: GraphIndex, node: Node): FoundUse | null {
  const isGemm = node.op === "Gemm";
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return null;
  if (intAttribute(node, "transA", 0) !== 0 || operandOf(index, node, 0) !== null) return null;
  if (intAttribute(node, "transBatchA", 0) !== 0 || intAttribute(node, "transBatchB", 0) !== 0) return null;
  const weight = weightOperand(index, node, 1, (r) => r === 2);
  const dims = tensorOf(index, weight)?.dims;
  if (!weight || !dims) return null;
  const operandLayout = intAttribute(node, "transB", 0) !== 0 ? "out_in" : "in_out";
  const [rows = 0, columns = 0] = weight.transposed ? [dims[1], dims[0]] : dims;
  const outFeatures = operandLayout === "out_in" ? rows : columns;
  const hasOwn = isGemm && (node.inputs[2] ?? "") !== "";
  const own = hasOwn ? biasOperand(index, node, 2, outFeatures) : null;
  if (hasOwn && !own) return null; // Gemm as a sum of two products, not as a layer
  return { kind: "linear", operandLayout, use: useOf(index, node, node.inputs[0] ?? "", weight, own, outFeatures) };
}

function embeddingUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 0, (r) => r === 2);
  if (!weight || intAttribute(node, "axis", 0) !== 0 || index.graph.initializers.has(node.inputs[1] ?? "")) return null;
  const [output = "", input = ""] = [node.outputs[0], node.inputs[1]];
  return { kind: "embedding", operandLayout: "out_in", use: { nodes: [node], input, output, weight, bias: null } };
}

function convUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 1, (r) => r >= 3);
  const channels = tensorOf(index, weight)?.dims[0];
  if (!weight || channels === undefined) return null;
  const own = biasOperand(index, node, 2, channels);
  const [output = "", input = ""] = [node.outputs[0], node.inputs[0]];
  return { kind: "conv", operandLayout: "out_in", use: { nodes: [node], input, output, weight, bias: own } };
}

function normUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 1, (r) => r === 1);
  const size = tensorOf(index, weight)?.dims[0];
  if (!weight || size === undefined) return null;
  const own = biasOperand(index, node, 2, size);
  return { kind: "norm", operandLayout: "out_in", use: useOf(index, node, node.inputs[0] ?? "", weight, own, size) };
}

const skipCasts = (index: GraphIndex, name: string): Node | undefined => {
  const producer = index.producers.get(name);
  return producer?.op === "Cast" ? index.producers.get(producer.inputs[0] ?? "") : producer;
};

/** True for values x / sqrt(...) and x * (1 / sqrt(...)): the normalised activations of LayerNorm and RMSNorm. */
function isNormalised(index: GraphIndex, name: string): boolean {
  const node = skipCasts(index, name);
  const operatorOf = (value: string | undefined): string => skipCasts(index, value ?? "")?.op ?? "";
  if (node?.op === "Div") return operatorOf(node.inputs[1]) === "Sqrt";
  if (node?.op !== "Mul") return false;
  return node.inputs.some((factor) => {
    const inverse = skipCasts(index, factor);
    const root =
      inverse?.op === "Reciprocal" ? inverse.inputs[0] : inverse?.op === "Div" ? inverse.inputs[1] : undefined;
    return operatorOf(root) === "Sqrt";
  });
}

/** Scale of a normalisation that is written in single operators: weight * normalised (+ bias). */
function normParts(index: GraphIndex, node: Node): FoundUse | null {
  for (const i of [0, 1]) {
    const weight = weightOperand(index, node, i, (r) => r === 1);
    const input = node.inputs[1 - i] ?? "";
    const size = tensorOf(index, weight)?.dims[0];
    if (!weight || size === undefined || size < 2 || !isNormalised(index, input)) continue;
    return { kind: "norm", operandLayout: "out_in", use: useOf(index, node, input, weight, null, size) };
  }
  return null;
}

/** A map: an operator of a file may be called "toString". */
const finders: ReadonlyMap<string, (index: GraphIndex, node: Node) => FoundUse | null> = new Map([
  ["MatMul", linearUse],
  ["Gemm", linearUse],
  ["com.microsoft::FusedMatMul", linearUse],
  ["Gather", embeddingUse],
  ["Conv", convUse],
  ["BatchNormalization", normUse],
  ["InstanceNormalization", normUse],
  ["LayerNormalization", normUse],
  ["RMSNormalization", normUse],
  ["SimplifiedLayerNormalization", normUse],
  ["Mul", normParts],
]);

/** Every use of a weight by a node that is a module's work, in graph order. */
export function findUses(index: GraphIndex): FoundUse[] {
  return index.graph.nodes.flatMap((node) => {
    const find = finders.get(node.domain === "" ? node.op : `${node.domain}::${node.op}`);
    const found = find?.(index, node);
    return found ? [found] : [];
  });
}
