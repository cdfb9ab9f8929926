import { type GraphIndex, indexGraph, onlyConsumer } from "../adapters/graph-index.ts";
import type { Graph, Node } from "../onnx/ir.ts";
import { packedWeightOf } from "../quantization/packed-weight.ts";
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
    return { ...model, opsets, graph: rewrite(model.graph, found) };
  },
};

function integerLinear(index: GraphIndex, node: Node): IntegerLinear | null {
  if (node.op !== "MatMulInteger" || node.domain !== "") return null;
  const [quantised = "", weight = "", zeroPoint = "", weightZero = ""] = node.inputs;
  const quantiser = index.producers.get(quantised);
  const cast = onlyConsumer(index, node.outputs[0] ?? "");
  const last = cast?.op === "Cast" ? onlyConsumer(index, cast.outputs[0] ?? "") : null;
  if (quantiser?.op !== "DynamicQuantizeLinear" || quantiser.outputs[2] !== zeroPoint) return null;
  if (!cast || last?.op !== "Mul") return null;
  const scale = index.producers.get(last.inputs[last.inputs[0] === cast.outputs[0] ? 1 : 0] ?? "");
  const [, xScale = ""] = quantiser.outputs;
  if (scale?.op !== "Mul" || !scale.inputs.includes(xScale)) return null;
  const scales = scale.inputs[scale.inputs[0] === xScale ? 1 : 0] ?? "";
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

function rewrite(graph: Graph, found: readonly IntegerLinear[]): Graph {
  const replacements = new Map(found.map(({ last, fused }) => [last, fused]));
  const nodes = graph.nodes.map((node) => replacements.get(node) ?? node);
  return { ...graph, nodes: withoutUnread(graph, nodes) };
}

const parts = new Set(["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"]);

/** Without the parts of the clusters that nobody reads any more. Backwards, as readers stand behind what they read. */
function withoutUnread(graph: Graph, nodes: readonly Node[]): Node[] {
  const { pinned, consumers } = indexGraph(graph);
  const read = new Set<string>(pinned);
  const kept: Node[] = [];
  for (const node of [...nodes].reverse()) {
    const wasRead = node.outputs.some((name) => consumers.has(name));
    if (parts.has(node.op) && wasRead && !node.outputs.some((name) => read.has(name))) continue;
    kept.push(node);
    for (const name of node.inputs) read.add(name);
  }
  return kept.reverse();
}
