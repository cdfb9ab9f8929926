import { type Seed, splitStratified } from "@onnx-peft/core";
import { definitionKey, isHeldOut } from "./held-out.ts";
import { readSynsets } from "./synsets.ts";

/** A definition and the lexicographers' category of what it defines. */
export interface GlossRow {
  readonly text: string;
  readonly label: string;
}

export interface GlossClassification {
  /** The 25 categories, sorted. */
  readonly labels: readonly string[];
  readonly train: readonly GlossRow[];
  readonly validation: readonly GlossRow[];
  readonly test: readonly GlossRow[];
}

export interface GlossClassificationOptions {
  seed: Seed;
  /** Rows; default 5,000. */
  train?: number;
  /** Rows; default 1,000. */
  validation?: number;
  /** Rows; default 8,000. */
  test?: number;
}

/** The 51 roots of the noun hierarchy ("entity", "abstraction"): a level, not a topic. */
const ROOTS = "noun.Tops";

/**
 * Every noun definition once, with its category. Left out: the roots, and definitions that stand under two categories
 * ("a long narrow opening", eight in all), which have no right answer.
 */
export function labelledDefinitions(): GlossRow[] {
  const rows = new Map<string, GlossRow | "ambiguous">();
  for (const { definition, lexicographerFile } of readSynsets("noun")) {
    if (lexicographerFile === ROOTS) continue;
    const key = definitionKey(definition);
    const known = rows.get(key);
    if (known === undefined) rows.set(key, { text: definition, label: lexicographerFile });
    else if (known !== "ambiguous" && known.label !== lexicographerFile) rows.set(key, "ambiguous");
  }
  return [...rows.values()].filter((row) => row !== "ambiguous");
}

/**
 * WordNet definitions to be sorted into 25 noun categories, "an immature golden eagle" to "noun.animal" for example.
 * Every split has the category shares of the whole. No definition is in two splits; validation and test come from
 * the fifth that pre-training never sees, whatever the seed, training rows from the rest.
 *
 * @throws PeftError SPLIT_INVALID when more rows are asked for than there are (65,462 to train, 16,048 to evaluate).
 * @example
 * const { labels, train, test } = glossClassification({ seed: 1 });
 */
export function glossClassification(options: GlossClassificationOptions): GlossClassification {
  const { seed, train = 5000, validation = 1000, test = 8000 } = options;
  const rows = labelledDefinitions();
  const by = (row: GlossRow): string => row.label;
  const seen = rows.filter((row) => !isHeldOut(row.text));
  const heldOut = rows.filter((row) => isHeldOut(row.text));
  return {
    labels: [...new Set(rows.map(by))].sort(),
    ...splitStratified(seen, { counts: { train }, seed, by }),
    ...splitStratified(heldOut, { counts: { validation, test }, seed, by }),
  };
}
