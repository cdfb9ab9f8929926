import type { Dim, Shape } from "./ir.ts";

/**
 * Shape of a graph output (or of a sub-graph's input) whose file does not even say the rank. Shape inference replaces it;
 * such values are not listed in `Graph.values`.
 */
export const unknownRank: Shape = Object.freeze(["..."]);

/** True for {@link unknownRank}. */
export const hasUnknownRank = (shape: Shape): boolean => shape.length === 1 && shape[0] === "...";

/** True for the symbol of a dimension about which a file says nothing, such as "?logits.0". */
export const isAnonymous = (dim: Dim): boolean => typeof dim === "string" && dim.startsWith("?");
