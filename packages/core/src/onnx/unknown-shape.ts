import type { Dim, Shape } from "./ir.ts";

/**
 * Shape of a graph output (or of a sub-graph's input) whose file does not even say the rank. Shape inference replaces it;
 * such values are not listed in `Graph.values`.
 */
export const unknownRank: Shape = Object.freeze(["..."]);

/**
 * Shape of a sub-graph's input or output whose file says neither type nor rank (bodies of functions): the value's element
 * type is then without meaning and is not written either.
 */
export const undeclared: Shape = Object.freeze(["...", "..."]);

/** True for {@link unknownRank} and {@link undeclared}. */
export const hasUnknownRank = (shape: Shape): boolean => shape[0] === "...";

/** True for {@link undeclared}. */
export const isUndeclared = (shape: Shape): boolean => shape[0] === "..." && shape[1] === "...";

/** True for the symbol of a dimension about which a file says nothing, such as "?logits.0". */
export const isAnonymous = (dim: Dim): boolean => typeof dim === "string" && dim.startsWith("?");
