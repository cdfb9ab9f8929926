import type { Attribute, Graph, Model } from "../onnx/ir.ts";
import { halfCodes, isHalf } from "./float-types.ts";
import { rewriteHalves } from "./half-graph.ts";

/** Mark in a model's metadata: 16-bit weights are left, 16-bit arithmetic is not. */
const DONE = "onnx-peft.float32-arithmetic";

/** True when a graph holds 16-bit floats anywhere. */
function hasHalves(graph: Graph): boolean {
  const inAttribute = (attribute: Attribute, name: string): boolean => {
    if (attribute.type === "tensor") return isHalf(attribute.value.type);
    if (attribute.type === "graph") return hasHalves(attribute.value);
    if (attribute.type === "graphs") return attribute.value.some(hasHalves);
    return attribute.type === "int" && (name === "to" || name === "dtype") && halfCodes.has(Number(attribute.value));
  };
  return (
    [...graph.initializers.values(), ...graph.inputs].some(({ type }) => isHalf(type)) ||
    graph.nodes.some(({ attributes }) => Object.entries(attributes).some(([name, a]) => inAttribute(a, name)))
  );
}

/**
 * A model in float16 or bfloat16 in float32 arithmetic: gradients of 16-bit activations under- and overflow, and CPUs compute
 * in float32 anyway. Large weights keep their 16 bits in memory and are cast where they are read; the cast hangs on the
 * activation beside it, so that ONNX Runtime does not compute it at load. Inputs and outputs keep their types.
 */
export function halfToFloat(model: Model): Model {
  if (model.metadata.has(DONE) || !hasHalves(model.graph)) return model;
  return { ...model, metadata: new Map([...model.metadata, [DONE, "1"]]), graph: rewriteHalves(model.graph) };
}
