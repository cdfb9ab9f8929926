import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { type CrossEntropyOptions, crossEntropy } from "./cross-entropy.ts";
import type { LossParts } from "./loss-parts.ts";

export interface MaskedLanguageModelInputs {
  /** What the language-model head reads: [batch, tokens, hidden]. */
  readonly hidden: Value;
  /** Which tokens were masked, as row numbers of [batch * tokens]: [masked], int64. Fill up with 0 and label -100. */
  readonly positions: Value;
  /** Their true token ids: [masked], int64. */
  readonly labels: Value;
}

/**
 * Masked language modelling: cross-entropy of the masked tokens only. The head sees the gathered rows [masked, hidden],
 * so that its largest product and the logits [masked, vocabulary] take some 15 % of the time and memory of all tokens.
 * Devlin et al. 2018, arXiv 1810.04805.
 * @throws PeftError LOSS_SHAPE
 * @example
 * const parts = maskedLanguageModel(g, { hidden, positions, labels }, (rows) => g.matMul(rows, decoder));
 */
export function maskedLanguageModel(
  g: Builder,
  { hidden, positions, labels }: MaskedLanguageModelInputs,
  head: (rows: Value) => Value,
  options: CrossEntropyOptions = {},
): LossParts {
  if (positions.shape.length !== 1 || labels.shape.length !== 1) {
    throw new PeftError(
      "LOSS_SHAPE",
      `Expected positions and labels [masked], received [${positions.shape.join(", ")}] and [${labels.shape.join(", ")}].`,
    );
  }
  return crossEntropy(g, { logits: head(g.gather(g.toMatrix(hidden), positions)), labels }, options);
}
