import { attention } from "./attention.ts";
import { biasedActivations } from "./biased-activations.ts";
import type { Expansion } from "./expansion.ts";
import { fusedBiases } from "./fused-biases.ts";
import { fusedConvolutions } from "./fused-convolutions.ts";
import { fusedProducts } from "./fused-products.ts";
import { groupNorms } from "./group-norms.ts";
import { groupQueryAttention } from "./group-query-attention.ts";
import { multiHeadAttention } from "./multi-head-attention.ts";
import { packedAttention } from "./packed-attention.ts";
import { paddingOperators } from "./padding.ts";
import { quantizedOperators } from "./quantized-operators.ts";
import { relativePosition } from "./relative-position.ts";
import { rotaryEmbedding } from "./rotary.ts";
import { skipNormalizations } from "./skip-normalizations.ts";

/**
 * Operators that are taken apart before anything else looks at a model, by their key (the domain stands before "::"). One
 * file per family. An operator need not have shape inference or a gradient to be here.
 */
export const expansions: Readonly<Record<string, Expansion>> = {
  ...biasedActivations,
  ...skipNormalizations,
  ...fusedProducts,
  ...fusedConvolutions,
  ...fusedBiases,
  ...rotaryEmbedding,
  ...attention,
  ...multiHeadAttention,
  ...groupQueryAttention,
  ...paddingOperators,
  ...packedAttention,
  ...relativePosition,
  ...groupNorms,
  ...quantizedOperators,
};
