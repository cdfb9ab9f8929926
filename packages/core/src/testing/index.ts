/** Helpers for tests of operators, methods and file formats that are added outside this package. They need no test runner. */
export {
  type CheckedFunction,
  type CheckedInput,
  type CheckOptions,
  checkGradient,
} from "./check-gradient.ts";
export { type GradientCheck, onGradientCheck, reportGradientCheck } from "./check-log.ts";
export { checkShapes, type ShapedInput } from "./check-shapes.ts";
export { checkUnary, type UnaryCase } from "./check-unary.ts";
export { type Finding, type FuzzOptions, type FuzzReport, fuzz, fuzzInput } from "./fuzz/fuzz.ts";
export type { FuzzRandom } from "./fuzz/fuzz-random.ts";
export { type Mutation, replaceBytes } from "./fuzz/mutate-bytes.ts";
export { mutateProtobuf } from "./fuzz/mutate-protobuf.ts";
export { mutateJson, mutateSafetensors, mutateWithWords } from "./fuzz/mutate-text.ts";
export { type FuzzTarget, promise } from "./fuzz/target.ts";
export { type FuzzLimits, type Outcome, tryInput } from "./fuzz/try-input.ts";
export { compareWithGolden, type GoldenComparison } from "./golden-export.ts";
export { type GoldenModel, goldenGradients } from "./golden-model.ts";
export { awayFrom, gradientAt, type Point } from "./gradient-at.ts";
export { openBuilder, runBuilder } from "./run-graph.ts";
