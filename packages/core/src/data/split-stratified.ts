import { PeftError } from "../errors.ts";
import type { Seed } from "../random/hash-seed.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import { shuffle } from "./shuffle.ts";

export interface SplitOptions<T, Name extends string> {
  /** Share of all rows per split, each in [0, 1], at most 1 together; rows beyond the sum are left out. */
  fractions?: Readonly<Record<Name, number>>;
  /** Rows per split, instead of `fractions`. */
  counts?: Readonly<Record<Name, number>>;
  seed: Seed;
  /** Class of a row. Without it all rows are one class, a plain random split. */
  by?: (row: T) => string | number;
}

const invalid = (message: string): PeftError => new PeftError("SPLIT_INVALID", message);

/** Rows of every split: as given, or fractions turned into whole numbers whose sum is that of the exact shares, rounded. */
function splitCounts<Name extends string>(rows: number, options: SplitOptions<never, Name>): [Name, number][] {
  const { fractions, counts } = options;
  if ((fractions === undefined) === (counts === undefined)) {
    throw invalid(`expected fractions or counts, received ${fractions === undefined ? "neither" : "both"}.`);
  }
  const entries = Object.entries(counts ?? fractions ?? {}) as [Name, number][];
  if (entries.length === 0) throw invalid("expected at least one split, received none.");
  const total = entries.reduce((sum, [, value]) => sum + value, 0);
  for (const [name, value] of entries) {
    const valid = counts ? Number.isInteger(value) && value >= 0 : value >= 0 && value <= 1;
    if (!valid)
      throw invalid(`expected ${counts ? "a whole number >= 0" : "0 to 1"} for "${name}", received ${value}.`);
  }
  if (counts) {
    if (total > rows) throw invalid(`expected counts of at most ${rows} rows together, received ${total}.`);
    return entries;
  }
  // 0.8 + 0.1 + 0.1 is not 1 in binary.
  if (total > 1 + 1e-9) throw invalid(`expected fractions of at most 1 together, received ${total}.`);
  const ideal = entries.map(([, fraction]) => fraction * rows);
  const whole = apportion(ideal, Math.min(rows, Math.round(ideal.reduce((sum, x) => sum + x, 0))));
  return entries.map(([name], i) => [name, whole[i] as number]);
}

/** Largest remainders (Hamilton): whole numbers near `ideal` with the given sum; ties go to the first. */
function apportion(ideal: readonly number[], sum: number): number[] {
  const whole = ideal.map((x) => Math.floor(x + 1e-9)); // products like 0.29 * 100 fall just short of 29
  const missing = sum - whole.reduce((total, x) => total + x, 0);
  const byRemainder = [...ideal.keys()].sort(
    (a, b) => (ideal[b] as number) - (whole[b] as number) - ((ideal[a] as number) - (whole[a] as number)) || a - b,
  );
  for (const i of byRemainder.slice(0, missing)) whole[i] = (whole[i] as number) + 1;
  return whole;
}

/**
 * Splits rows so that every split has the class shares of the whole, to one row per class. A row is in one split at most. The
 * result depends on the seed, the rows' order and their classes alone; each split is shuffled, so that a prefix of it is a
 * sample as well. Costs O(n).
 *
 * @returns the rows of each split, under the names of `fractions` or `counts`.
 * @throws PeftError SPLIT_INVALID for shares or counts that are negative, not whole or too many.
 * @example
 * const { train, test } = splitStratified(rows, { fractions: { train: 0.8, test: 0.2 }, seed: 42, by: (row) => row.label });
 */
export function splitStratified<T, Name extends string>(
  rows: readonly T[],
  options: SplitOptions<T, Name>,
): Record<Name, T[]> {
  const { seed, by = () => "" } = options;
  const counts = splitCounts(rows.length, options as SplitOptions<never, Name>);
  const classes = new Map<string | number, T[]>();
  for (const row of rows) {
    const key = by(row);
    const members = classes.get(key);
    if (members) members.push(row);
    else classes.set(key, [row]);
  }
  const pools = [...classes].map(([key, members]) => shuffle(members, createRandom(streamSeed(seed, "split", key))));
  const taken = pools.map(() => 0);
  const left = (): number[] => pools.map((pool, i) => pool.length - (taken[i] as number));

  const splits = {} as Record<Name, T[]>;
  for (const [name, count] of counts) {
    const available = left();
    const total = available.reduce((sum, x) => sum + x, 0);
    // Shares of what is left keep the shares of the whole, and an apportioned share never exceeds what a class has left.
    const shares = apportion(
      available.map((x) => (total === 0 ? 0 : (count * x) / total)),
      count,
    );
    const picked = pools.flatMap((pool, i) => {
      const from = taken[i] as number;
      taken[i] = from + (shares[i] as number);
      return pool.slice(from, taken[i]);
    });
    splits[name] = shuffle(picked, createRandom(streamSeed(seed, "split-order", name)));
  }
  return splits;
}
