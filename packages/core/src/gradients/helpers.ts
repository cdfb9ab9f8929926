import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import type { DefinitionContext, RuleContext } from "./rule.ts";

/** Input `index` of the node, which its operator requires. */
export function inputAt(c: DefinitionContext, index: number): Value {
  const value = c.inputs[index];
  if (!value) throw new PeftError("MISSING_INPUT", `${c.node.op} "${c.node.name}" lacks input ${index}.`);
  return value;
}

/** Output `index` of the node. */
export function outputAt(c: DefinitionContext, index = 0): Value {
  const value = c.outputs[index];
  if (!value) throw new PeftError("MISSING_OUTPUT", `${c.node.op} "${c.node.name}" lacks output ${index}.`);
  return value;
}

/** Gradient of output `index`; zeros where nothing flows back into it. */
export function dOutput(c: RuleContext, index = 0): Value {
  const gradient = c.dOutputs[index];
  if (gradient) return gradient;
  const value = outputAt(c, index);
  return c.g.filled(value.shape, 0, value.type, value);
}
