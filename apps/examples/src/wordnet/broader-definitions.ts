import { createRandom, type Random, type Seed, shuffle, streamSeed } from "@onnx-peft/core";
import { definitionKey, isHeldOut } from "./held-out.ts";
import { readSynsets, type Synset } from "./synsets.ts";

/** Two definitions, one of them of a broader concept: "stag with antlers of 12 or more branches", "adult male deer". */
export interface BroaderDefinition {
  readonly text: string;
  readonly textPair: string;
  /** Which of them is the broader one. */
  readonly label: "first" | "second";
}

export interface BroaderDefinitions {
  readonly train: readonly BroaderDefinition[];
  readonly validation: readonly BroaderDefinition[];
  readonly test: readonly BroaderDefinition[];
}

export interface BroaderDefinitionsOptions {
  readonly seed: Seed;
  /** Pairs of each split. */
  readonly train: number;
  readonly validation: number;
  readonly test: number;
}

/**
 * A task of two texts: which of two definitions is that of the broader concept? Pairs are nouns of WordNet with their hypernyms and
 * the hypernyms of those, each pair once, half of them in each order. No definition is in two splits: those of test pairs are of the
 * fifth that pre-training never sees, those of validation pairs are a fifth of the rest, drawn by the seed.
 * @throws RangeError when more pairs are asked for than there are
 * @example
 * const { train, test } = broaderDefinitions({ seed: 1, train: 6000, validation: 1000, test: 4000 });
 */
export function broaderDefinitions(options: BroaderDefinitionsOptions): BroaderDefinitions {
  const { seed, train, validation, test } = options;
  const random = (name: string): Random => createRandom(streamSeed(seed, "broader-definitions", name));
  const synsets = readSynsets("noun");
  const splits = splitDefinitions(synsets, random("validation"));
  const pairs = shuffle(withBroader(synsets), random("pairs"));
  const take = (split: keyof BroaderDefinitions, count: number): BroaderDefinition[] => {
    const found = pairs
      .filter((pair) => pair.every((definition) => splits.get(definitionKey(definition)) === split))
      .slice(0, count);
    if (found.length < count) throw new RangeError(`expected ${count} pairs for ${split}, found ${found.length}`);
    return found.map(([narrow, broad], i) =>
      i % 2 === 0
        ? { text: narrow, textPair: broad, label: "second" }
        : { text: broad, textPair: narrow, label: "first" },
    );
  };
  return { train: take("train", train), validation: take("validation", validation), test: take("test", test) };
}

/** The split of every definition, by its key. */
function splitDefinitions(synsets: readonly Synset[], random: Random): ReadonlyMap<string, keyof BroaderDefinitions> {
  const keys = [...new Set(synsets.map(({ definition }) => definitionKey(definition)))];
  const held = new Set(keys.filter(isHeldOut));
  const seen = shuffle(
    keys.filter((key) => !held.has(key)),
    random,
  );
  const splits = new Map<string, keyof BroaderDefinitions>(keys.map((key) => [key, held.has(key) ? "test" : "train"]));
  for (const key of seen.slice(0, Math.floor(seen.length / 5))) splits.set(key, "validation");
  return splits;
}

/** Definitions of every synset and of those one and two steps above it, no pair twice. */
function withBroader(all: readonly Synset[]): (readonly [narrow: string, broad: string])[] {
  const synsets = new Map(all.map((synset) => [synset.id, synset]));
  const above = ({ hypernyms }: Synset): Synset[] => hypernyms.flatMap((id) => synsets.get(id) ?? []);
  const pairs = new Map<string, readonly [string, string]>();
  for (const synset of all) {
    for (const broader of above(synset).flatMap((parent) => [parent, ...above(parent)])) {
      const keys = [definitionKey(synset.definition), definitionKey(broader.definition)];
      if (keys[0] !== keys[1]) pairs.set(keys.join("\n"), [synset.definition, broader.definition]);
    }
  }
  return [...pairs.values()];
}
