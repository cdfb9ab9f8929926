// Compiled against the packed declarations, without the sources.
import {
  type Builder,
  createBuilder,
  differentiate,
  type Model,
  PeftError,
  toModel,
  type Value,
} from "@onnx-peft/core";
import { type CheckedFunction, checkGradient } from "@onnx-peft/core/testing";
import { buildEncoder, type Head } from "@onnx-peft/text";

export function square(): Model {
  const g: Builder = createBuilder();
  const x: Value = g.input("x", "float32", ["batch", 3]);
  const gradients: Value[] = differentiate(g, [{ value: g.reduceSum(g.mul(x, x), [0, 1], false) }], [x]);
  for (const dX of gradients) g.output(dX, "dX");
  // @ts-expect-error a shape is not a string
  g.input("y", "float32", "batch");
  return toModel(g.finish(), g.opset);
}

const tanh: CheckedFunction = (g, inputs) => inputs.map((x) => g.tanh(x));
export const checked: Promise<void> = checkGradient(tanh, [{ dims: [2] }]);

const head: Head = { type: "token-classification", labels: 3 };
// @ts-expect-error a head for classification says how many labels it has
export const incomplete: Head = { type: "token-classification" };

export function codeOf(config: unknown): string {
  try {
    buildEncoder(config, new Map(), head);
    return "";
  } catch (error) {
    return PeftError.isInstance(error) ? error.code : "unknown";
  }
}
