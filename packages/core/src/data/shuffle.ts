import type { Random } from "../random/random.ts";

/**
 * A shuffled copy (Fisher-Yates); the input stays as it is.
 *
 * @param random the source of randomness; it moves on by one number or more per element.
 * @example
 * shuffle(["a", "b", "c"], createRandom(streamSeed(42, "order"))); // a permutation of the three
 */
export function shuffle<T>(values: ArrayLike<T>, random: Random): T[] {
  const order = random.permutation(values.length);
  return Array.from(order, (index) => values[index] as T);
}
