import { PeftError } from "../errors.ts";
import type { Node, TensorData } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import type { FeatureSlice } from "./site.ts";

/**
 * What the reader of a fused operand gets when one module's part of it is trained: the parts before and after as they are in
 * `current`, which may have trained parts already, and the new one between them, along `axis`.
 * @param constants takes up the bounds of the slices.
 */
export function replaceSlice(
  current: string,
  value: string,
  { start, size, total }: FeatureSlice,
  axis: number,
  constants: Map<string, TensorData>,
): Node[] {
  const nodes: Node[] = [];
  const constant = (number: number): string => {
    const name = `${value}:bound:${number}`;
    constants.set(name, tensorFrom("int64", [1], [number]));
    return name;
  };
  const add = (op: string, inputs: string[], attributes: Node["attributes"]): string => {
    const output = `${value}:fused:${nodes.length}`;
    nodes.push({ name: output, op, domain: "", inputs, outputs: [output], attributes, metadata: {} });
    return output;
  };
  const slice = (from: number, to: number): string[] =>
    from === to ? [] : [add("Slice", [current, constant(from), constant(to), constant(axis)], {})];
  add("Concat", [...slice(0, start), value, ...slice(start + size, total)], { axis: { type: "int", value: axis } });
  return nodes;
}

/** An operator that reads quantised weights only has no place for a part in floating point. */
export const quantizedSlice = (site: string, what: string): PeftError =>
  new PeftError("QUANTIZED_SLICE", `"${site}" is a part of a quantised product of several modules; ${what}.`, {
    hint: "Adapters beside the product (LoRA) can be trained and fed; to merge, start from the model in float32.",
  });
