import { halfToFloat } from "./half-to-float.ts";
import { integerLinears } from "./integer-linears.ts";
import type { Pass } from "./pass.ts";
import { recogniseActivations } from "./recognise-activations.ts";
import { recogniseNorms } from "./recognise-norms.ts";
import { safeSoftmax } from "./safe-softmax.ts";

/**
 * Rewritings of clusters of nodes, in the order in which they run. All of them run before any single operator is expanded
 * (`table.ts`), so they see the operators of the file. Arithmetic in 16 bits goes first, then integer layers, norms,
 * activations: a later pass may rely on what an earlier one has written.
 */
export const passes: readonly Pass[] = [
  { name: "half-to-float", run: halfToFloat },
  integerLinears,
  safeSoftmax,
  recogniseNorms,
  recogniseActivations,
];
