import { PeftError } from "../errors.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { noGradient, type RuleContext, rule } from "./rule.ts";

/**
 * The gradient in the type that the input had; a cast between floating types is a straight line up to rounding. Quantised
 * inputs carry floating-point gradients.
 */
function castBack(c: RuleContext): Value {
  const { type } = inputAt(c, 0);
  return isFloating(type) ? c.g.cast(dOutput(c), type) : dOutput(c);
}

/** From opset 12 a third input switches training on; a model for inference leaves it out or sets it to false. */
function checkInference({ g, node, inputs }: RuleContext): void {
  const mode = inputs[2];
  if (!mode || g.intsOf(mode)?.[0] === 0) return;
  throw new PeftError(
    "DROPOUT_TRAINING",
    `Expected Dropout "${node.name}" in inference mode, received training_mode from "${mode.name}", which is not a constant false.`,
    {
      hint: "Export the model for inference; dropout while training is the engine's own, with masks that resume exactly.",
      details: { node: node.name, trainingMode: mode.name },
    },
  );
}

/** Operators that hand a value on: as it is, in another type, or without its gradient. */
export const passing = {
  /** Y = X: dX = dY. */
  Identity: rule([1, 24], (c) => [dOutput(c)]),
  "onnx-peft::StopGradient": noGradient("stops gradients by definition"),
  /** Y = X in another floating type: dX = dY in X's type. Integers and booleans carry no gradient. */
  Cast: rule([6, 24], (c) => [castBack(c)]),
  /** As Cast, to the type of the second input. */
  CastLike: rule([15, 24], (c) => [castBack(c), null]),
  /** Y = X (inference): dX = dY. @throws PeftError DROPOUT_TRAINING in training mode. */
  Dropout: rule([7, 24], (c) => {
    checkInference(c);
    return [dOutput(c)];
  }),
};
