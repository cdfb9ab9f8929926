import { seededRandom } from "./seeded-random.ts";

/** Choices for a mutation; the same seed gives the same choices for ever. */
export interface FuzzRandom {
  /** Whole number in [0, limit); 0 when the limit is below 1. */
  below(limit: number): number;
  /** An element; the list must not be empty. */
  pick<T>(list: readonly T[]): T;
  /** True with the given probability. */
  chance(probability: number): boolean;
}

/** FNV-1a over the text: names and numbers to one 32-bit seed. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** The generator of input `index` of a parser: every input can be made again without those before it. */
export function fuzzRandom(parser: string, seed: number, index: number): FuzzRandom {
  const random = seededRandom(hash(`${parser}/${seed}/${index}`));
  const below = (limit: number): number => Math.floor(random() * Math.max(1, limit));
  return {
    below,
    pick: <T>(list: readonly T[]): T => list[below(list.length)] as T,
    chance: (probability) => random() < probability,
  };
}
