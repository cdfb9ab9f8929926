import { type GraphIndex, operandOf } from "../adapters/graph-index.ts";
import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Node } from "../onnx/ir.ts";

/** A product x·M with a constant matrix M [inFeatures, outFeatures] in floating point. */
export interface FrozenProduct {
  readonly node: Node;
  /** Name of x. */
  readonly input: string;
  /** Initialiser behind M; M is its transpose when `flipped`. */
  readonly weight: string;
  readonly flipped: boolean;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Name of what the node itself adds (Gemm's C), or null. */
  readonly addend: string | null;
}

/** The same matrix may be used as it is and transposed (tied tables): two keys. */
export const productKey = ({ weight, flipped }: Pick<FrozenProduct, "weight" | "flipped">): string =>
  flipped ? `${weight}:transposed` : weight;

const products = new Set(["MatMul", "Gemm", "com.microsoft::FusedMatMul"]);

/** What a node multiplies by, when it is a layer: the right factor a constant matrix, the left one not constant. */
export function frozenProductOf(index: GraphIndex, node: Node): FrozenProduct | null {
  if (!products.has(node.domain === "" ? node.op : `${node.domain}::${node.op}`)) return null;
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return null;
  if (["transA", "transBatchA", "transBatchB"].some((flag) => intAttribute(node, flag, 0) !== 0)) return null;
  const operand = operandOf(index, node, 1);
  if (!operand || operandOf(index, node, 0)) return null;
  const tensor = index.graph.initializers.get(operand.initializer);
  const [rows, columns, ...more] = tensor?.dims ?? [];
  if (tensor?.type !== "float32" || rows === undefined || columns === undefined || more.length > 0) return null;
  const flipped = (intAttribute(node, "transB", 0) !== 0) !== operand.transposed;
  const addend = node.inputs[2] ?? "";
  return {
    node,
    input: node.inputs[0] ?? "",
    weight: operand.initializer,
    flipped,
    inFeatures: flipped ? columns : rows,
    outFeatures: flipped ? rows : columns,
    addend: addend === "" ? null : addend,
  };
}
