import { isHalf } from "../lowering/float-types.ts";
import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Node } from "../onnx/ir.ts";
import { expertsEinsum, expertsUse, withExpertNames } from "./find-expert-uses.ts";
import { packedFinders, packedGather } from "./find-packed-uses.ts";
import { fusedUses } from "./fused-uses.ts";
import type { GraphIndex } from "./graph-index.ts";
import { onlyConsumer, operandOf, weightBehind } from "./graph-index.ts";
import { type ShapeOf, stackedUses } from "./stacked-uses.ts";
import { biasOperand, type FoundUse, useOf, weightOperand } from "./use-parts.ts";

function linearUse(index: GraphIndex, node: Node): FoundUse | null {
  const isGemm = node.op === "Gemm";
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return null;
  if (intAttribute(node, "transA", 0) !== 0 || operandOf(index, node, 0) !== null) return null;
  if (intAttribute(node, "transBatchA", 0) !== 0 || intAttribute(node, "transBatchB", 0) !== 0) return null;
  const weight = weightOperand(index, node, 1, (r) => r === 2);
  const dims = weightBehind(index, weight)?.dims;
  if (!weight || !dims) return null;
  const operandLayout = intAttribute(node, "transB", 0) !== 0 ? "out_in" : "in_out";
  const [rows = 0, columns = 0] = weight.transposed ? [dims[1], dims[0]] : dims;
  const outFeatures = operandLayout === "out_in" ? rows : columns;
  const hasOwn = isGemm && (node.inputs[2] ?? "") !== "";
  const own = hasOwn ? biasOperand(index, node, 2, outFeatures) : null;
  if (hasOwn && !own) return null; // Gemm as a sum of two products, not as a layer
  return { kind: "linear", operandLayout, use: useOf(index, [node], node.inputs[0] ?? "", weight, own, outFeatures) };
}

function embeddingUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 0, (r) => r === 2);
  if (!weight || intAttribute(node, "axis", 0) !== 0 || index.graph.initializers.has(node.inputs[1] ?? "")) return null;
  const [made = "", input = ""] = [node.outputs[0], node.inputs[1]];
  // Rows of a table in 16 bits are cast behind it.
  const cast = isHalf(weightBehind(index, weight)?.type ?? "string") ? onlyConsumer(index, made) : null;
  const nodes = cast?.op === "Cast" ? [node, cast] : [node];
  const output = nodes.at(-1)?.outputs[0] ?? made;
  return { kind: "embedding", operandLayout: "out_in", use: { nodes, input, output, weight, bias: null } };
}

function convUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 1, (r) => r >= 3);
  const channels = weightBehind(index, weight)?.dims[0];
  if (!weight || channels === undefined) return null;
  const own = biasOperand(index, node, 2, channels);
  const [output = "", input = ""] = [node.outputs[0], node.inputs[0]];
  return { kind: "conv", operandLayout: "out_in", use: { nodes: [node], input, output, weight, bias: own } };
}

function normUse(index: GraphIndex, node: Node): FoundUse | null {
  const weight = weightOperand(index, node, 1, (r) => r === 1);
  const size = weightBehind(index, weight)?.dims[0];
  if (!weight || size === undefined) return null;
  const own = biasOperand(index, node, 2, size);
  return { kind: "norm", operandLayout: "out_in", use: useOf(index, [node], node.inputs[0] ?? "", weight, own, size) };
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
    const size = weightBehind(index, weight)?.dims[0];
    if (!weight || size === undefined || size < 2 || !isNormalised(index, input)) continue;
    return { kind: "norm", operandLayout: "out_in", use: useOf(index, [node], input, weight, null, size) };
  }
  return null;
}

const productUse = (index: GraphIndex, node: Node): FoundUse | null =>
  linearUse(index, node) ?? expertsUse(index, node);

/** A map: an operator of a file may be called "toString". */
const finders: ReadonlyMap<string, (index: GraphIndex, node: Node) => FoundUse | null> = new Map([
  ["MatMul", productUse],
  ["Gemm", productUse],
  ["Einsum", expertsEinsum],
  ["com.microsoft::FusedMatMul", productUse],
  ["Gather", (index, node) => embeddingUse(index, node) ?? packedGather(index, node)],
  ["Conv", convUse],
  ["BatchNormalization", normUse],
  ["LayerNormalization", normUse],
  ["RMSNormalization", normUse],
  ["SimplifiedLayerNormalization", normUse],
  ["Mul", normParts],
  ...packedFinders,
]);

/** Every use of a weight by a node that is a module's work, in graph order; fused projections module by module. */
export function findUses(index: GraphIndex, shapeOf: ShapeOf): FoundUse[] {
  const uses = index.graph.nodes.flatMap((node) => {
    const find = finders.get(node.domain === "" ? node.op : `${node.domain}::${node.op}`);
    const found = find?.(index, node);
    return found ? (fusedUses(index, found) ?? stackedUses(index, found, shapeOf) ?? [found]) : [];
  });
  return withExpertNames(index, uses);
}
