import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { noGradient, rule } from "./rule.ts";

/** Sums, products and quotients. Shapes broadcast; the engine undoes it. */
export const arithmetic = {
  /** Y = A + B: dA = dY, dB = dY. */
  Add: rule([7, 24], (c) => [dOutput(c), dOutput(c)]),
  /** Y = A - B: dA = dY, dB = -dY. */
  Sub: rule([7, 24], (c) => [dOutput(c), c.needs[1] ? c.g.neg(dOutput(c)) : null]),
  /** Y = A * B: dA = dY * B, dB = dY * A. */
  Mul: rule([7, 24], (c) => {
    const times = (other: Value): Value => c.g.mul(dOutput(c), other);
    return [c.needs[0] ? times(inputAt(c, 1)) : null, c.needs[1] ? times(inputAt(c, 0)) : null];
  }),
  /** Y = X. */
  Identity: rule([1, 24], (c) => [dOutput(c)]),
  "onnx-peft::StopGradient": noGradient("stops gradients by definition"),
};
