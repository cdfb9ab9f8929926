import type { Value } from "../onnx/ir.ts";
import { float } from "./attributes.ts";
import type { GraphCore } from "./core.ts";

/** Reductions, softmax and normalisation. */
export function reduceOps(core: GraphCore) {
  const reduce =
    (op: string, axesAsInput: number) =>
    (x: Value, axes: readonly number[], keepDims = true): Value => {
      const keepdims = keepDims ? 1 : 0;
      if (core.opset >= axesAsInput) return core.op(op, [x, core.constant("int64", axes)], { keepdims })[0] as Value;
      return core.op(op, [x], { axes, keepdims })[0] as Value;
    };
  return {
    reduceSum: reduce("ReduceSum", 13),
    reduceMean: reduce("ReduceMean", 18),
    reduceMax: reduce("ReduceMax", 18),
    reduceMin: reduce("ReduceMin", 18),
    softmax: (x: Value, axis = -1): Value => core.op("Softmax", [x], { axis })[0] as Value,
    logSoftmax: (x: Value, axis = -1): Value => core.op("LogSoftmax", [x], { axis })[0] as Value,
    /** (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis. */
    layerNormalization: (x: Value, weight: Value, bias: Value | null, epsilon: number): Value =>
      core.op("LayerNormalization", [x, weight, bias], { axis: -1, epsilon: float(epsilon) })[0] as Value,
    cumSum: (x: Value, axis: number): Value => core.op("CumSum", [x, core.constant("int64", axis)])[0] as Value,
  };
}
