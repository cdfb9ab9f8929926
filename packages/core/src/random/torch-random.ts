import { PeftError } from "../errors.ts";
import { boxMuller16 } from "./box-muller.ts";
import { mersenneTwister } from "./mersenne-twister.ts";

/** The CPU random numbers of PyTorch. */
export interface TorchRandom {
  /** Next raw 32-bit number. */
  uint32(): number;
  /** `torch.empty(size).uniform_(from, to)` in float32, row-major, default [0, 1); bit-equal to a CPU with AVX2. */
  uniform(size: number, from?: number, to?: number): Float32Array;
  /** `torch.empty(size).normal_(mean, std)` in float32; bit-equal to a CPU with AVX2. */
  normal(size: number, mean?: number, std?: number): Float32Array;
  /** `torch.randperm(n)`. @throws PeftError TORCH_RANDOM_UNSUPPORTED for n >= 2^32 / 20. */
  randperm(n: number): Int32Array;
}

/** From here on PyTorch draws 64-bit numbers to keep the modulo bias small. */
const RANDPERM_LIMIT = 4294967295 / 20;

/**
 * PyTorch's CPU generator after `torch.manual_seed(seed)`, for files that store a seed instead of the numbers it produces
 * (VeRA's projections, FourierFT's positions).
 *
 * Rules, read in PyTorch's source and checked against PyTorch 2.13 and 2.15: uniform float32 takes the low 24 bits of one draw;
 * `randperm` swaps element i with i + draw mod (n - i); `normal` below 16 elements is Box-Muller in double precision whose sine
 * half is kept for the next call, from 16 elements on it is Box-Muller over blocks of 16 uniforms (first eight give the radii,
 * last eight the angles), and when 16 does not divide the size the last 16 are drawn anew.
 *
 * @param seed a safe integer; PyTorch uses the lowest 32 bits only.
 * @throws PeftError SEED_INVALID when the seed is not a safe integer, or negative.
 * @example
 * torchRandom(42).uniform(2); // Float32Array [0.88226926, 0.91500396], as torch.manual_seed(42); torch.rand(2)
 */
export function torchRandom(seed: number): TorchRandom {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new PeftError("SEED_INVALID", `expected a safe integer >= 0 as a PyTorch seed, received ${seed}.`);
  }
  const uint32 = mersenneTwister(seed);
  let spareNormal: number | null = null;

  /** Uniform double from 53 bits of two draws, the high word first. */
  const uniformDouble = (): number => {
    const high = uint32() & 0x1fffff;
    return (high * 4294967296 + uint32()) * 2 ** -53;
  };
  const uniform24 = (): number => (uint32() & 0xffffff) * 2 ** -24;

  const normalDouble = (): number => {
    if (spareNormal !== null) {
      const value = spareNormal;
      spareNormal = null;
      return value;
    }
    const angle = 2 * Math.PI * uniformDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-uniformDouble()));
    spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };

  return {
    uint32,
    uniform(size, from = 0, to = 1) {
      const low = Math.fround(from);
      const range = Math.fround(Math.fround(to) - low);
      const values = new Float32Array(size);
      // One rounding, not two: PyTorch's kernels are compiled with fused multiply-add. The product is exact in a double (48 bits).
      for (let i = 0; i < size; i++) values[i] = uniform24() * range + low;
      return values;
    },
    normal(size, mean = 0, std = 1) {
      const values = new Float32Array(size);
      if (size < 16) {
        for (let i = 0; i < size; i++) values[i] = normalDouble() * std + mean;
        return values;
      }
      const meanFloat = Math.fround(mean);
      const stdFloat = Math.fround(std);
      for (let i = 0; i < size; i++) values[i] = uniform24();
      for (let start = 0; start + 16 <= size; start += 16) boxMuller16(values, start, meanFloat, stdFloat);
      if (size % 16 !== 0) {
        for (let i = size - 16; i < size; i++) values[i] = uniform24();
        boxMuller16(values, size - 16, meanFloat, stdFloat);
      }
      return values;
    },
    randperm(n) {
      if (!Number.isInteger(n) || n < 0 || n >= RANDPERM_LIMIT) {
        throw new PeftError(
          "TORCH_RANDOM_UNSUPPORTED",
          `expected an integer in [0, ${Math.floor(RANDPERM_LIMIT)}) for randperm, received ${n}.`,
        );
      }
      const order = new Int32Array(n);
      for (let i = 0; i < n; i++) order[i] = i;
      for (let i = 0; i < n - 1; i++) {
        const j = i + (uint32() % (n - i));
        const kept = order[i] as number;
        order[i] = order[j] as number;
        order[j] = kept;
      }
      return order;
    },
  };
}
