import { PeftError } from "../errors.ts";
import { intsAttribute } from "../onnx/infer/context.ts";
import type { RuleContext } from "./rule.ts";

/** 0..n-1. */
export const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export const positiveAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** The permutation that undoes `perm`. */
export const invertPermutation = (perm: readonly number[]): number[] => upTo(perm.length).map((i) => perm.indexOf(i));

/**
 * A list of numbers that is an attribute in old opsets and input `index` in new ones; null when the node has neither.
 * @throws PeftError DYNAMIC_AXES when the input is computed at run time.
 */
export function listAt(c: RuleContext, attribute: string, index: number): number[] | null {
  const fixed = intsAttribute(c.node, attribute);
  if (fixed) return fixed;
  const given = c.inputs[index];
  if (!given) return null;
  const known = c.g.intsOf(given);
  if (known?.every((d): d is number => typeof d === "number")) return [...known];
  throw new PeftError(
    "DYNAMIC_AXES",
    `Expected constant ${attribute} for the gradient of ${c.node.op} "${c.node.name}", received "${given.name}", which is computed at run time.`,
    { hint: "Export the model with constant axes, or choose target modules after this node." },
  );
}
