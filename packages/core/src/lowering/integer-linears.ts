import { type GraphIndex, indexGraph, onlyConsumer } from "../adapters/graph-index.ts";
import type { Node } from "../onnx/ir.ts";
import { packedWeightOf } from "../quantization/packed-weight.ts";
import { integerProduct, replaceProducts } from "./integer-product.ts";
import type { Pass } from "./pass.ts";

/** x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul by the product of both scales, and the bias behind. */
interface IntegerLinear {
  /** The node that makes the result. */
  readonly last: Node;
  readonly fused: Node;
}

/**
 * Linear layers of dynamically quantised files as one operator: x rounded to uint8, an integer product, and its scales,
 * which is what ONNX Runtime's DynamicQuantizeMatMul computes, to the bit (its optimiser makes the same replacement). It has a
 * float on both sides, and with that a gradient, straight through the rounding. One DynamicQuantizeLinear often feeds several
 * products; each then rounds for itself. The weight is a constant [in, out] with scales and zero points per tensor or column.
 */
export const integerLinears: Pass = {
  name: "integer-linears",
  run(model) {
    const index = indexGraph(model.graph);
    const found = model.graph.nodes.flatMap((node) => integerLinear(index, node) ?? []);
    if (found.length === 0) return model;
    const opsets = new Map([["com.microsoft", 1], ...model.opsets]);
    const replacements = new Map(found.map(({ last, fused }) => [last, fused]));
    return { ...model, opsets, graph: replaceProducts(model.graph, replacements) };
  },
};

function integerLinear(index: GraphIndex, node: Node): IntegerLinear | null {
  if (node.op !== "MatMulInteger" || node.domain !== "") return null;
  const found = integerProduct(index, node);
  if (!found) return null;
  const { quantiser, last, scales } = found;
  const [, weight = "", , weightZero = ""] = node.inputs;
  const inputs = [quantiser.inputs[0] ?? "", weight, scales, weightZero];
  while (inputs.at(-1) === "") inputs.pop();
  const fused: Node = {
    ...{ name: node.name, op: "DynamicQuantizeMatMul", domain: "com.microsoft", inputs, outputs: last.outputs },
    ...{ attributes: {}, metadata: node.metadata },
  };
  const packed = packedWeightOf(index.graph, fused);
  if (packed?.dims.length !== 2 || packed.type !== "float32") return null;
  return withBias(index, { last, fused }, packed.dims[1] ?? 0);
}

/** With the bias that is added behind, inside, where ONNX Runtime puts it too: added elsewhere, the last bit may differ. */
function withBias(index: GraphIndex, { last, fused }: IntegerLinear, outFeatures: number): IntegerLinear {
  const [made = ""] = last.outputs;
  const add = onlyConsumer(index, made);
  if (add?.op !== "Add" || add.domain !== "") return { last, fused };
  const bias = add.inputs[add.inputs[0] === made ? 1 : 0] ?? "";
  const tensor = index.graph.initializers.get(bias);
  if (tensor?.type !== "float32" || tensor.dims.length !== 1 || tensor.dims[0] !== outFeatures) return { last, fused };
  const inputs = [0, 1, 2, 3].map((i) => fused.inputs[i] ?? "");
  return { last: add, fused: { ...fused, inputs: [...inputs, bias], outputs: add.outputs } };
}
