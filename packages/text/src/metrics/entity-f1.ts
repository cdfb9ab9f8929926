import { type ClassCounts, type F1Score, f1FromCounts, PeftError } from "@onnx-peft/core";
import { entitiesOf, type TagScheme } from "./entities.ts";

/** Precision, recall, F1 and support over all entities, the score that papers report (micro average). */
export interface EntityF1 extends F1Score {
  /** Mean over types. */
  readonly macro: F1Score;
  /** Mean over types, weighted by their number of true entities. */
  readonly weighted: F1Score;
  /** By type, sorted; types that occur in predictions only are included. */
  readonly perType: Readonly<Record<string, F1Score>>;
}

/**
 * Precision, recall and F1 of whole entities: one counts as found when type, start and end are right. Equal to seqeval's
 * `mode="strict"` for "BIO" (its IOB2) and "BIOES", and to its default for "lenient".
 *
 * @param predictions tags by sentence and token.
 * @param labels the true tags, same lengths.
 * @param scheme default "BIO".
 * @throws PeftError METRIC_INPUT for different lengths, TAG_INVALID for unknown tags.
 * @example
 * entityF1([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]]).f1; // 0: the end is wrong
 */
export function entityF1(
  predictions: readonly (readonly string[])[],
  labels: readonly (readonly string[])[],
  scheme: TagScheme = "BIO",
): EntityF1 {
  const counts = new Map<string, ClassCounts>();
  const countsOf = (type: string): ClassCounts => {
    const known = counts.get(type) ?? { truePositives: 0, predicted: 0, support: 0 };
    counts.set(type, known);
    return known;
  };
  if (predictions.length !== labels.length || labels.length === 0) {
    throw new PeftError(
      "METRIC_INPUT",
      `expected as many predicted as true sentences, received ${predictions.length} and ${labels.length}.`,
    );
  }
  labels.forEach((tags, sentence) => {
    const predicted = predictions[sentence] ?? [];
    if (predicted.length !== tags.length) {
      throw new PeftError(
        "METRIC_INPUT",
        `expected ${tags.length} tags in sentence ${sentence}, received ${predicted.length}.`,
      );
    }
    const truth = new Set<string>();
    for (const { type, start, end } of entitiesOf(tags, scheme)) {
      truth.add(`${start} ${end} ${type}`);
      countsOf(type).support++;
    }
    for (const { type, start, end } of entitiesOf(predicted, scheme)) {
      const c = countsOf(type);
      c.predicted++;
      if (truth.has(`${start} ${end} ${type}`)) c.truePositives++;
    }
  });
  const types = [...counts.keys()].sort();
  const { perClass, micro, macro, weighted } = f1FromCounts(types.map(countsOf));
  return {
    ...micro,
    macro,
    weighted,
    perType: Object.fromEntries(types.map((type, i) => [type, perClass[i] as F1Score])),
  };
}
