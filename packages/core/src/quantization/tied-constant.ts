import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { TIED } from "../onnx/tied.ts";

/**
 * A constant in the given shape (default its own) that is not available before the floating-point value `dependency` is,
 * which must not be empty. ONNX Runtime computes at load what follows from constants alone, and merges equal nodes: expanded
 * weights would stay in memory. Here the target of a Reshape is computed from the dependency, which costs no copy and changes
 * no bit.
 */
export function tiedConstant(
  g: Builder,
  constant: Value,
  dependency: Value,
  dims: readonly number[] = constant.shape.map(Number),
): Value {
  const target = g.after(g.ints(dims), dependency);
  return g.op("Reshape", [constant, target], {}, { metadata: { [TIED]: dims.join(",") } })[0] as Value;
}
