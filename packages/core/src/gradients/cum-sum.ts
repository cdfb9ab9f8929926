import { intAttribute } from "../onnx/infer/context.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { rule } from "./rule.ts";

/** Running sums. */
export const cumSum = {
  /**
   * Y_i = sum of X_j over j <= i (exclusive: j < i; reverse: from the other end): the transpose of a triangular matrix of
   * ones is the same sum in the other direction. Saves nothing; the axis may be computed at run time.
   */
  CumSum: rule([11, 24], (c) => {
    const reverse = intAttribute(c.node, "reverse", 0) === 1 ? 0 : 1;
    const exclusive = intAttribute(c.node, "exclusive", 0);
    return [...c.g.op("CumSum", [dOutput(c), inputAt(c, 1)], { reverse, exclusive }), null];
  }),
};
