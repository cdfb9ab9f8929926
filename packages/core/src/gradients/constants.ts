import { noGradient } from "./rule.ts";

const integers = "its result is made of integers";
const fixed = "its result does not depend on floating-point inputs";

/** Operators that end the walk: integer results and constants. */
export const constants = {
  Shape: noGradient(integers),
  Size: noGradient(integers),
  NonZero: noGradient(integers),
  Constant: noGradient(fixed),
  ConstantOfShape: noGradient(fixed),
  EyeLike: noGradient(fixed),
  Range: noGradient("positions are not trained"),
};
