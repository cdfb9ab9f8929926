import { PeftError } from "../errors.ts";

/** The random numbers of NumPy's `default_rng`. */
export interface NumpyRandom {
  /** Next 64 bits, as `bit_generator.random_raw()` gives them. */
  uint64(): bigint;
  /** `choice(population, size, replace=False)`: distinct integers of 0 .. population - 1. */
  choice(population: number, size: number): Int32Array;
  /** `shuffle(values)`, in place. */
  shuffle(values: Int32Array): void;
}

const mask64 = (1n << 64n) - 1n;
const multiplier = 0x2360ed051fc65da44385df649fccf645n;

/** Mixes 32-bit words with a constant that changes at every use. */
function hasher(first: number, factor: number): (value: number) => number {
  let constant = first;
  return (value) => {
    const mixed = value ^ constant;
    constant = Math.imul(constant, factor);
    const product = Math.imul(mixed, constant);
    return product ^ (product >>> 16);
  };
}

const mix = (x: number, y: number): number => {
  const result = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
  return result ^ (result >>> 16);
};

/** The four 64-bit words that `SeedSequence(seed)` spreads a seed of up to 64 bits over. */
function spread(seed: number): bigint[] {
  const hash = hasher(0x43b0d7e5, 0x931e8875);
  const words = [seed % 2 ** 32, Math.floor(seed / 2 ** 32), 0, 0];
  const pool = Int32Array.from(words, (word) => hash(word | 0));
  for (let from = 0; from < 4; from++)
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to] as number, hash(pool[from] as number));
  const out = hasher(0x8b51f9dd, 0x58f38ded);
  const state = Array.from({ length: 8 }, (_, i) => BigInt(out(pool[i % 4] as number) >>> 0));
  return [0, 1, 2, 3].map((k) => (state[2 * k] as bigint) | ((state[2 * k + 1] as bigint) << 32n));
}

/**
 * NumPy's `default_rng(seed)`, for files that store a seed instead of the numbers it produces (the indices of Uni-LoRA): PCG64
 * (O'Neill 2014: a 128-bit linear congruential generator, its halves xored and rotated), `choice` draws by Lemire's method
 * (arXiv 1805.10941) and picks by Floyd's, or from the end of a shuffled list where many of a large population are wanted; `shuffle`
 * draws by rejection. Checked against NumPy 2.4.
 *
 * @param seed a safe integer >= 0
 * @throws PeftError SEED_INVALID otherwise
 * @example
 * numpyRandom(42).choice(10, 4); // Int32Array [4, 0, 5, 6], as np.random.default_rng(42).choice(10, 4, replace=False)
 */
export function numpyRandom(seed: number): NumpyRandom {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new PeftError("SEED_INVALID", `expected a safe integer >= 0 as a NumPy seed, received ${seed}.`);
  }
  const [high = 0n, low = 0n, streamHigh = 0n, streamLow = 0n] = spread(seed);
  const increment = BigInt.asUintN(128, (((streamHigh << 64n) | streamLow) << 1n) | 1n);
  const after = (state: bigint): bigint => BigInt.asUintN(128, state * multiplier + increment);
  let state = after(BigInt.asUintN(128, increment + ((high << 64n) | low)));
  let spare: number | null = null;

  const uint64 = (): bigint => {
    state = after(state);
    const value = (state >> 64n) ^ (state & mask64);
    const turn = state >> 122n;
    return BigInt.asUintN(64, (value >> turn) | (value << ((64n - turn) & 63n)));
  };
  /** Two of 64 bits, the low half first. */
  const uint32 = (): number => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const bits = uint64();
    spare = Number(bits >> 32n);
    return Number(bits & 0xffffffffn);
  };
  /** Uniform in 0 .. last, last < 2^32 - 1. */
  const upTo = (last: number): number => {
    if (last === 0) return 0;
    const count = last + 1;
    const threshold = (2 ** 32 - count) % count;
    for (;;) {
      const draw = uint32();
      // draw * count exceeds 2^53: its two halves apart.
      const lower = (draw & 0xffff) * count;
      const upper = (draw >>> 16) * count + Math.floor(lower / 65536);
      const fraction = (upper % 65536) * 65536 + (lower % 65536);
      if (fraction >= threshold) return Math.floor(upper / 65536);
    }
  };
  /** The same by rejection: draws as many bits as `last` has. */
  const within = (last: number): number => {
    const mask = 2 ** (32 - Math.clz32(last)) - 1;
    let draw = (uint32() & mask) >>> 0;
    while (draw > last) draw = (uint32() & mask) >>> 0;
    return draw;
  };
  const shuffle = (values: Int32Array, draw: (last: number) => number, first = 1): void => {
    for (let i = values.length - 1; i >= first; i--) {
      const j = draw(i);
      const kept = values[i] as number;
      values[i] = values[j] as number;
      values[j] = kept;
    }
  };

  return {
    uint64,
    shuffle: (values) => shuffle(values, within),
    choice(population, size) {
      if (!(size >= 0 && size <= population && population < 2 ** 31)) {
        throw new PeftError("RANDOM_RANGE", `expected at most ${population} distinct integers, received ${size}.`);
      }
      if (population > 10_000 && size > Math.floor(population / 50)) {
        const all = Int32Array.from({ length: population }, (_, i) => i);
        shuffle(all, upTo, Math.max(population - size, 1));
        return all.slice(population - size);
      }
      const chosen = new Set<number>();
      for (let j = population - size; j < population; j++) {
        const value = upTo(j);
        chosen.add(chosen.has(value) ? j : value);
      }
      const values = Int32Array.from(chosen);
      shuffle(values, upTo);
      return values;
    },
  };
}
