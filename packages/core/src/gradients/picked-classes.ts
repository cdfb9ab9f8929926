import { intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis } from "./axes.ts";
import type { RuleContext } from "./rule.ts";

/** What is picked of values Y along an axis: the places and the gradient of what was found there, of one shape. */
export interface PickedClasses {
  readonly indices: Value;
  readonly gradient: Value;
}

/**
 * Where all that is made of Y is GatherElements(Y, indices) along `axis`, one or some classes of every row, as in a cross-entropy:
 * dY is zero but for those places, and need not be made. null where Y is used in another way, or some rows are left out.
 */
export function pickedClasses(c: RuleContext, y: Value, axis: number): PickedClasses | null {
  const { g } = c;
  const use = c.onlyUse(y);
  if (use?.op !== "GatherElements" || use.domain !== "" || g.opset < 16) return null;
  const [data = "", places = ""] = use.inputs;
  if (data !== y.name || positiveAxis(intAttribute(use, "axis", 0), y.shape.length) !== axis) return null;
  const indices = g.value(places);
  const isEveryRow = indices.shape.every((dim, i) => i === axis || dim === y.shape[i]);
  const gradient = c.gradientOf(g.value(use.outputs[0] as string));
  return isEveryRow && gradient ? { indices, gradient } : null;
}
