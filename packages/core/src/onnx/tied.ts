import type { Node } from "./ir.ts";

/**
 * Mark of a Reshape that keeps a constant from existing before some other value does: its target is computed from that
 * value, and has the sizes that the mark lists. See `quantization/tied-constant.ts`.
 */
export const TIED = "onnx-peft.tied";

/** Sizes of what a marked Reshape makes; null for any other node. */
export function tiedDims(node: Node): number[] | null {
  const mark = node.op === "Reshape" ? node.metadata[TIED] : undefined;
  if (mark === undefined) return null;
  const dims = mark === "" ? [] : mark.split(",").map(Number);
  return dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) ? dims : null;
}
