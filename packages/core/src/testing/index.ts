/** Helpers for tests of operators and methods that are added outside this package. They need no test runner. */
export {
  type CheckedFunction,
  type CheckedInput,
  type CheckOptions,
  checkGradient,
} from "./check-gradient.ts";
export { checkShapes, type ShapedInput } from "./check-shapes.ts";
export { checkUnary, type UnaryCase } from "./check-unary.ts";
export { awayFrom, gradientAt, type Point } from "./gradient-at.ts";
export { openBuilder, runBuilder } from "./run-graph.ts";
