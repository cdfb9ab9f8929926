import { createRandom, type Seed, shuffle, streamSeed } from "@onnx-peft/core";
import type { TextRow } from "@onnx-peft/text";
import { definitionKey, isHeldOut } from "./held-out.ts";
import { readSynsets } from "./synsets.ts";

/** A definition, and as `textPair` that of a broader concept: "stag with antlers of 12 or more branches", "adult male deer". */
export type DefinitionPair = TextRow<undefined>;

export interface HypernymPairs {
  readonly train: readonly DefinitionPair[];
  readonly validation: readonly DefinitionPair[];
  readonly test: readonly DefinitionPair[];
}

export interface HypernymPairsOptions {
  readonly seed: Seed;
  /** Pairs; default 12,000. */
  readonly train?: number;
  /** Pairs; default 300. */
  readonly validation?: number;
  /** Pairs; default 1,000. */
  readonly test?: number;
}

/**
 * Nouns of WordNet and their hypernyms ("is a kind of"), both by their definitions. Of the pairs to evaluate on, both
 * definitions are of the fifth that pre-training never sees, and no broader definition or narrower one occurs twice, so that
 * each query has one right answer; 1,319 such pairs exist. Pairs to train on have neither side in that fifth.
 * @example
 * const { train, test } = hypernymPairs({ seed: 1 });
 */
export function hypernymPairs(options: HypernymPairsOptions): HypernymPairs {
  const { seed, train = 12_000, validation = 300, test = 1000 } = options;
  const synsets = new Map(readSynsets("noun").map((synset) => [synset.id, synset]));
  const pairs = [...synsets.values()].flatMap(({ definition, hypernyms }): DefinitionPair[] => {
    const broader = synsets.get(hypernyms[0] ?? "")?.definition;
    return broader === undefined ? [] : [{ text: definition, textPair: broader, label: undefined }];
  });
  const mixed = shuffle(pairs, createRandom(streamSeed(seed, "hypernym-pairs")));
  const isSide = (side: boolean) => (pair: DefinitionPair) =>
    isHeldOut(pair.text) === side && isHeldOut(pair.textPair ?? "") === side;
  const used = new Set<string>();
  const once = mixed.filter(isSide(true)).filter(({ text, textPair = "" }) => {
    const keys = [definitionKey(text), definitionKey(textPair)];
    if (keys.some((key) => used.has(key))) return false;
    for (const key of keys) used.add(key);
    return true;
  });
  if (once.length < validation + test)
    throw new RangeError(`expected ${validation + test} pairs, found ${once.length}`);
  return {
    train: mixed.filter(isSide(false)).slice(0, train),
    validation: once.slice(test, test + validation),
    test: once.slice(0, test),
  };
}
