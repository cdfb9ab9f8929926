import { type GraphIndex, operandOf } from "../adapters/graph-index.ts";
import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Graph, Node } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { dequantized } from "../quantization/dequantize.ts";
import { initializersOf, type PackedWeight, packedWeightOf, partOf } from "../quantization/packed-weight.ts";

/** A product x·M with a constant matrix M [inFeatures, outFeatures], in floating point or packed into fewer bits. */
export interface FrozenProduct {
  readonly node: Node;
  /** Name of x. */
  readonly input: string;
  /** Initialiser behind M, the integers of a packed one; M is its transpose when `flipped`. */
  readonly weight: string;
  readonly packed: PackedWeight | null;
  readonly flipped: boolean;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Name of what the node itself adds (Gemm's C), or null. */
  readonly addend: string | null;
}

/** Names of all initialisers that M is made of. */
export const weightsOf = ({ weight, packed }: FrozenProduct): string[] => (packed ? initializersOf(packed) : [weight]);

/** M in float32, or its transpose when `flipped`. @throws PeftError UNKNOWN_VALUE, QUANTIZED_TYPE, QUANTIZED_BITS, FILE_RANGE */
export const frozenMatrix = (graph: Pick<Graph, "initializers">, { weight, packed }: FrozenProduct): Float32Array =>
  packed ? dequantized(graph, packed) : toFloat32Array(partOf(graph, weight));

/** The same matrix may be used as it is and transposed (tied tables): two keys. */
export const productKey = ({ weight, flipped }: Pick<FrozenProduct, "weight" | "flipped">): string =>
  flipped ? `${weight}:transposed` : weight;

const products = new Set(["MatMul", "Gemm", "com.microsoft::FusedMatMul"]);
/** Operators that read a packed weight [outFeatures, inFeatures] themselves, and where their bias is. */
const packedProducts = new Map([
  ["com.microsoft::MatMulNBits", 5],
  ["com.microsoft::MatMulBnb4", -1],
]);

/** What a node multiplies by, when it is a layer: the right factor a constant matrix, the left one not constant. */
export function frozenProductOf(index: GraphIndex, node: Node): FrozenProduct | null {
  const type = node.domain === "" ? node.op : `${node.domain}::${node.op}`;
  const biasAt = packedProducts.get(type);
  if (biasAt !== undefined) return packedProductOf(index, node, biasAt);
  if (!products.has(type)) return null;
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return null;
  if (["transA", "transBatchA", "transBatchB"].some((flag) => intAttribute(node, flag, 0) !== 0)) return null;
  const operand = operandOf(index, node, 1);
  if (!operand || operandOf(index, node, 0)) return null;
  const { packed = null, initializer } = operand;
  const tensor = index.graph.initializers.get(initializer);
  if (!packed && tensor?.type !== "float32") return null;
  const flipped = (intAttribute(node, "transB", 0) !== 0) !== operand.transposed;
  return productOf(node, { weight: initializer, packed, flipped, dims: (packed ?? tensor)?.dims ?? [] }, 2);
}

function packedProductOf(index: GraphIndex, node: Node, biasAt: number): FrozenProduct | null {
  const packed = operandOf(index, node, 0) ? null : packedWeightOf(index.graph, node);
  return packed && productOf(node, { weight: packed.data, packed, flipped: true, dims: packed.dims }, biasAt);
}

function productOf(
  node: Node,
  {
    dims: [rows, columns, ...more],
    ...matrix
  }: Pick<FrozenProduct, "weight" | "packed" | "flipped"> & { dims: readonly number[] },
  addendAt: number,
): FrozenProduct | null {
  if (rows === undefined || columns === undefined || more.length > 0) return null;
  const addend = node.inputs[addendAt] ?? "";
  return {
    ...{ node, input: node.inputs[0] ?? "", ...matrix },
    inFeatures: matrix.flipped ? columns : rows,
    outFeatures: matrix.flipped ? rows : columns,
    addend: addend === "" ? null : addend,
  };
}
