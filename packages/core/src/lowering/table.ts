import { biasedActivations } from "./biased-activations.ts";
import type { Expansion } from "./expansion.ts";

/**
 * Operators that are taken apart before anything else looks at a model, by their key (the domain stands before "::"). One
 * file per family. An operator need not have shape inference or a gradient to be here.
 */
export const expansions: Readonly<Record<string, Expansion>> = {
  ...biasedActivations,
};
