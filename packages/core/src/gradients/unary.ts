import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type GradientRule, type RuleContext, rule } from "./rule.ts";

/** A rule for an operator of one differentiable input: `backward` gets dY and X and returns dX. */
export const unaryRule = (
  opsets: readonly [number, number],
  backward: (c: RuleContext, dY: Value, x: Value) => Value,
): GradientRule => rule(opsets, (c) => [backward(c, dOutput(c), inputAt(c, 0))]);
