import { PeftError } from "../errors.ts";
import { hashSeed, type Seed } from "./hash-seed.ts";

/** Everything needed to continue a {@link Random} exactly; plain JSON. */
export interface RandomState {
  /** The four 32-bit words of xoshiro128**, unsigned. */
  words: [number, number, number, number];
  /** The second value of the last Box-Muller pair, not handed out yet. */
  spareNormal: number | null;
}

/** A seeded stream of random numbers. */
export interface Random {
  /** Uniform integer in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1), a multiple of 2^-32. */
  uniform(): number;
  /** Standard normal (Box-Muller). */
  normal(): number;
  /** Uniform integer in [0, n) without modulo bias, 1 <= n <= 2^32. */
  integer(n: number): number;
  /** Random order of 0 .. n-1 (Fisher-Yates). */
  permutation(n: number): Int32Array;
  /** Fills `target` uniformly from [lo, hi), 24 random bits a value. */
  fillUniform(target: Float32Array, lo: number, hi: number): Float32Array;
  /** Fills `target` from a normal distribution. */
  fillNormal(target: Float32Array, mean: number, std: number): Float32Array;
  state(): RandomState;
  /** @throws PeftError RANDOM_STATE_INVALID when the words are not four uint32, not all zero. */
  restore(state: RandomState): void;
}

const TWO_TO_32 = 4294967296;

const rotateLeft = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

function checkState({ words, spareNormal }: RandomState): void {
  const valid =
    words.length === 4 &&
    words.every((word) => Number.isInteger(word) && word >= 0 && word < TWO_TO_32) &&
    words.some((word) => word !== 0) && // all zero is the fixed point of xoshiro
    (spareNormal === null || Number.isFinite(spareNormal));
  if (valid) return;
  throw new PeftError(
    "RANDOM_STATE_INVALID",
    `expected four unsigned 32-bit words, not all zero, and a finite spare or null, received ${JSON.stringify({ words, spareNormal })}.`,
  );
}

/**
 * A seeded generator: xoshiro128** (Blackman and Vigna, arXiv 1805.01407), period 2^128 - 1, seeded by a hash, so that close
 * seeds give unrelated streams. The same numbers on every platform. For PyTorch's numbers use `torchRandom`.
 *
 * @throws PeftError SEED_INVALID for NaN and infinite seeds.
 * @example
 * const random = createRandom(streamSeed(42, "dropout", 12));
 * const order = random.permutation(5); // Int32Array(5)
 */
export function createRandom(seed: Seed): Random {
  const s = hashSeed([seed]);
  if (s.every((word) => word === 0)) s[0] = 1;
  let spareNormal: number | null = null;

  const uint32 = (): number => {
    const s0 = s[0] as number;
    const s1 = s[1] as number;
    const s2 = (s[2] as number) ^ s0;
    const s3 = (s[3] as number) ^ s1;
    s[0] = s0 ^ s3;
    s[1] = s1 ^ s2;
    s[2] = s2 ^ (s1 << 9);
    s[3] = rotateLeft(s3, 11);
    return Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0;
  };

  const integer = (n: number): number => {
    if (!Number.isInteger(n) || n < 1 || n > TWO_TO_32) {
      throw new PeftError("RANDOM_RANGE", `expected an integer bound in [1, 2^32], received ${n}.`);
    }
    // Draws at or above the largest multiple of n would favour small remainders: draw again (less than 2 draws on average).
    const limit = TWO_TO_32 - (TWO_TO_32 % n);
    let draw = uint32();
    while (draw >= limit) draw = uint32();
    return draw % n;
  };

  const normal = (): number => {
    if (spareNormal !== null) {
      const value = spareNormal;
      spareNormal = null;
      return value;
    }
    // (uint32 + 1) / 2^32 lies in (0, 1], so the logarithm is finite.
    const radius = Math.sqrt(-2 * Math.log((uint32() + 1) / TWO_TO_32));
    const angle = 2 * Math.PI * (uint32() / TWO_TO_32);
    spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };

  return {
    uint32,
    uniform: () => uint32() / TWO_TO_32,
    normal,
    integer,
    permutation(n) {
      const order = new Int32Array(n);
      for (let i = 1; i < n; i++) {
        const j = integer(i + 1);
        order[i] = order[j] as number;
        order[j] = i;
      }
      return order;
    },
    fillUniform(target, lo, hi) {
      // 24 bits: more would round up to hi when stored as float32.
      const scale = (hi - lo) / 16777216;
      for (let i = 0; i < target.length; i++) target[i] = lo + (uint32() >>> 8) * scale;
      return target;
    },
    fillNormal(target, mean, std) {
      for (let i = 0; i < target.length; i++) target[i] = mean + std * normal();
      return target;
    },
    state: () => ({
      words: [(s[0] as number) >>> 0, (s[1] as number) >>> 0, (s[2] as number) >>> 0, (s[3] as number) >>> 0],
      spareNormal,
    }),
    restore(state) {
      checkState(state);
      s.set(state.words.map((word) => word | 0));
      spareNormal = state.spareNormal;
    },
  };
}

/**
 * The seed of an independent named stream, so that data order, dropout and initialisation never share numbers and any step's
 * numbers can be drawn without those before it.
 *
 * @returns a non-negative safe integer (53 bits), usable wherever a seed is.
 * @throws PeftError SEED_INVALID for NaN and infinities.
 * @example
 * createRandom(streamSeed(42, "dropout", step)); // the same masks whether or not the run was resumed
 */
export function streamSeed(seed: Seed, ...names: readonly Seed[]): number {
  const words = hashSeed([seed, ...names]);
  return ((words[0] as number) >>> 11) * TWO_TO_32 + ((words[1] as number) >>> 0);
}
