import type { Graph, Value, ValueType } from "../onnx/ir.ts";
import { type Builder, createBuilder } from "./builder.ts";

/**
 * A sub-graph for If, Loop or Scan. `build` gets a builder in which every value of `g` can be read too, and one value per
 * entry of `inputs`; what it returns become the outputs, under names of their own (an output that is a value from outside,
 * an input or a constant is shown through an Identity, as ONNX Runtime demands).
 */
export function buildSubgraph(
  g: Builder,
  name: string,
  inputs: readonly ValueType[],
  build: (child: Builder, inputs: Value[]) => readonly Value[],
): Graph {
  const child = createBuilder(g.opset, g);
  const values = inputs.map(({ type, shape }) => child.input(child.freshName(`${name}_input`), type, shape));
  for (const value of build(child, values)) child.output(value, child.freshName(`${name}_output`));
  return child.finish({ name });
}
