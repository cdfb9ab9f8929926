import type { ForwardValue } from "./forward-values.ts";

/** Tried limits of what one block may save, as parts of everything that is saved: 1, 0.71, 0.5, ... */
const LIMITS = Array.from({ length: 30 }, (_, i) => 2 ** (-i / 2));

/**
 * Cuts the forward pass into blocks so that keeping only what crosses the cuts, and computing one block at a time again,
 * needs least memory: minimises (bytes that cross a cut, each value once) + (most bytes saved within one block), see below. On a chain
 * of layers the cuts fall between layers, or finer, where one hidden state crosses; nothing is known of layers here.
 *
 * Chen et al. 2016, arXiv 1604.06174, with measured sizes instead of equal ones. For each limit on what a block may save the
 * cheapest cuts follow by dynamic programming over the places where crossing bytes have a local minimum: O(limits * places^2).
 *
 * @param count of forward nodes.
 * @returns for each block the place after its last node; the last one is `count`.
 */
export function findBlocks(count: number, values: Iterable<ForwardValue>): number[] {
  const large = [...values].filter((value) => !value.kept);
  const places = [0, ...localMinima(crossingBytes(count, large)), count];
  const saved = savedBefore(count, large);
  const total = saved[count] as number;
  const cost = cutCosts(places, large);
  let best = { peak: Number.POSITIVE_INFINITY, cuts: [count] };
  for (const part of LIMITS) {
    const cuts = cheapestCuts(places, cost, saved, total * part);
    const peak = cuts.cost + cuts.largest;
    if (peak < best.peak) best = { peak, cuts: cuts.ends };
  }
  return best.cuts;
}

/** Bytes of values made before place p and read at p or after it, for p = 0..count. */
function crossingBytes(count: number, values: readonly ForwardValue[]): Float64Array {
  const change = new Float64Array(count + 2);
  for (const { made, lastRead, bytes } of values) {
    if (lastRead === made) continue;
    change[made + 1] = (change[made + 1] as number) + bytes;
    change[lastRead + 1] = (change[lastRead + 1] as number) - bytes;
  }
  for (let p = 1; p < change.length; p++) change[p] = (change[p] as number) + (change[p - 1] as number);
  return change.subarray(0, count + 1);
}

/** Places inside where less crosses than before and no more than after: the first of equal ones. */
function localMinima(crossing: Float64Array): number[] {
  const places: number[] = [];
  let falling = false;
  for (let p = 1; p < crossing.length - 1; p++) {
    const [before, here, after] = [crossing[p - 1], crossing[p], crossing[p + 1]] as [number, number, number];
    if (here < before) falling = true;
    if (here > before) falling = false;
    if (falling && after >= here) {
      places.push(p);
      falling = false;
    }
  }
  return places;
}

/** Bytes of saved values made before each place. */
function savedBefore(count: number, values: readonly ForwardValue[]): Float64Array {
  const sums = new Float64Array(count + 1);
  for (const { made, bytes, saved } of values) if (saved) sums[made + 1] = (sums[made + 1] as number) + bytes;
  for (let p = 1; p <= count; p++) sums[p] = (sums[p] as number) + (sums[p - 1] as number);
  return sums;
}

/** cost[j][i]: bytes made between places i and j and read after j, so that a value counts at the first cut it crosses. */
function cutCosts(places: readonly number[], values: readonly ForwardValue[]): Float64Array[] {
  // The last place at or before the value's node: it counts for blocks that begin there or earlier.
  const begins = values.map(({ made }) => places.findLastIndex((place) => place <= made));
  return places.map((end, j) => {
    const costs = new Float64Array(j + 1);
    values.forEach(({ made, lastRead, bytes }, v) => {
      const i = begins[v] as number;
      if (made < end && lastRead >= end) costs[i] = (costs[i] as number) + bytes;
    });
    for (let i = j - 1; i >= 0; i--) costs[i] = (costs[i] as number) + (costs[i + 1] as number);
    return costs;
  });
}

/** What a cut costs beside what crosses it: its nodes and small values. Without it, cuts that gain nothing would be made. */
const CUT_BYTES = 4096;

/**
 * A block that is computed again also holds gradients: this part of what it saves, on average over saved bytes (so that
 * blocks stay small also where another one, a head over a large vocabulary, decides the peak).
 */
const GRADIENT_SHARE = 0.25;

interface Cuts {
  readonly ends: number[];
  readonly cost: number;
  /** Saved bytes of the largest block. */
  readonly largest: number;
}

/** The cheapest cuts whose blocks save at most `limit` each, where a block can be that small. */
function cheapestCuts(
  places: readonly number[],
  cost: readonly Float64Array[],
  saved: Float64Array,
  limit: number,
): Cuts {
  const last = places.length - 1;
  const savedIn = (i: number, j: number): number =>
    (saved[places[j] as number] as number) - (saved[places[i] as number] as number);
  const best = new Float64Array(places.length).fill(Number.POSITIVE_INFINITY);
  const from = new Int32Array(places.length).fill(-1);
  best[0] = 0;
  for (let j = 1; j <= last; j++) {
    for (let i = j - 1; i >= 0 && (i === j - 1 || savedIn(i, j) <= limit); i--) {
      const again = (GRADIENT_SHARE * savedIn(i, j) ** 2) / Math.max(1, savedIn(0, last));
      const bytes = j === last ? 0 : CUT_BYTES + (cost[j]?.[i] as number) + again;
      if ((best[i] as number) + bytes < (best[j] as number)) {
        best[j] = (best[i] as number) + bytes;
        from[j] = i;
      }
    }
  }
  const ends: number[] = [];
  let largest = 0;
  for (let j = last; j > 0; j = from[j] as number) {
    ends.unshift(places[j] as number);
    largest = Math.max(largest, savedIn(from[j] as number, j));
  }
  return { ends, cost: best[last] as number, largest };
}
