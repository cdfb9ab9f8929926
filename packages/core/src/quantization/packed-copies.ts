import { byteLength } from "../onnx/element-type.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Graph } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";

/** What packed copies of weights may cost. */
const LIMIT_BYTES = 128 * 2 ** 20;

/** Accuracy level of MatMulNBits at which packed weights are multiplied by activations rounded to 8 bits. */
const INTEGERS = 4;

/** Operators that keep a constant second factor in their kernel's layout where they are let. */
const packing = new Set(["MatMul", "Gemm", "FusedMatMul", "MatMulNBits"]);

/** Whether packed weights give what unpacked ones do, up to rounding: with no MatMulNBits of accuracy level 4. */
export const packingKeepsResults = (graph: Graph): boolean =>
  graph.nodes.every((node) => node.op !== "MatMulNBits" || intAttribute(node, "accuracy_level", 0) !== INTEGERS);

/**
 * Bytes of a second copy of the weights that products read, in the layout of ONNX Runtime's kernels, where that is worth its
 * memory; else 0: without weights of a few bits (MatMulNBits), above 128 MB, and where packing would change what is computed.
 * From weights as they lie in the file MatMulNBits makes one more buffer with all of them in float32 in every run; from packed
 * ones it makes those of a tile at a time. For 512 tokens through a BERT-base in 4 bits that is a sixth of a training step, for
 * 42 MB. Float32 weights beside them are packed as well, which gains nothing.
 */
export function packedCopies(graph: Graph): number {
  const weights = new Map<string, number>();
  let isNarrow = false;
  for (const node of graph.nodes) {
    const name = packing.has(node.op) ? (node.inputs[1] ?? "") : "";
    const tensor = graph.initializers.get(name);
    if (!tensor) continue;
    weights.set(name, byteLength(tensor.type, elementCount(tensor.dims)));
    isNarrow ||= node.op === "MatMulNBits";
  }
  const bytes = [...weights.values()].reduce((sum, each) => sum + each, 0);
  return isNarrow && bytes <= LIMIT_BYTES && packingKeepsResults(graph) ? bytes : 0;
}
