import { PeftError } from "../errors.ts";

/** What a random generator can be seeded with. Numbers may be any finite double; 1 and "1" are different seeds. */
export type Seed = number | string;

/** Multipliers of the four lanes: odd 32-bit constants with well-spread bits, so that each lane is a bijection per word. */
const LANE_MULTIPLIERS = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f] as const;

const rotateLeft = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

/** Bijective avalanche: every input bit flips each output bit with a probability close to one half. */
function avalanche(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x7feb352d);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0x846ca68b);
  return mixed ^ (mixed >>> 16);
}

/** The parts as 32-bit words; tag and length keep ("a", "bc") apart from ("ab", "c") and 1 apart from "1". */
function wordsOf(parts: readonly Seed[]): number[] {
  const words: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") {
      words.push(0x53, part.length);
      for (let i = 0; i < part.length; i++) words.push(part.charCodeAt(i));
      continue;
    }
    if (!Number.isFinite(part)) {
      throw new PeftError("SEED_INVALID", `expected a finite number or a string as a seed, received ${part}.`);
    }
    const bits = new DataView(new ArrayBuffer(8));
    bits.setFloat64(0, part === 0 ? 0 : part); // -0 and 0 are one seed
    words.push(0x4e, bits.getInt32(0), bits.getInt32(4));
  }
  return words;
}

/**
 * Hashes seeds and stream names to four 32-bit words. Not cryptographic; the same on every platform.
 *
 * @throws PeftError SEED_INVALID for NaN and infinities.
 * @example
 * hashSeed([42, "dropout", 12]); // Int32Array(4)
 */
export function hashSeed(parts: readonly Seed[]): Int32Array {
  const lanes = new Int32Array([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]);
  for (const word of wordsOf(parts)) {
    for (let lane = 0; lane < 4; lane++) {
      const mixed = Math.imul((lanes[lane] ?? 0) ^ word, LANE_MULTIPLIERS[lane] ?? 1);
      lanes[lane] = rotateLeft(mixed, 13) + (lanes[(lane + 1) & 3] ?? 0);
    }
  }
  for (let round = 0; round < 8; round++) {
    const lane = round & 3;
    lanes[lane] = avalanche((lanes[lane] ?? 0) + (lanes[(lane + 3) & 3] ?? 0) + round);
  }
  return lanes;
}
