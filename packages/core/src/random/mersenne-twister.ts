const SIZE = 624;
const OFFSET = 397;

/**
 * MT19937 (Matsumoto and Nishimura 1998) with the usual 32-bit seeding: the raw generator under PyTorch's, NumPy's legacy and
 * C++'s `std::mt19937`.
 *
 * @param seed only its lowest 32 bits count, as in PyTorch.
 * @returns a function giving the next unsigned 32-bit number.
 * @example
 * mersenneTwister(5489)(); // 3499211612
 */
export function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(SIZE);
  // % keeps bits that >>> would lose for seeds above 2^53 only; below, both agree.
  let previous = (seed % 4294967296) >>> 0;
  state[0] = previous;
  for (let i = 1; i < SIZE; i++) {
    previous = (Math.imul(1812433253, previous ^ (previous >>> 30)) + i) >>> 0;
    state[i] = previous;
  }
  let index = SIZE;

  const refill = (): void => {
    for (let i = 0; i < SIZE; i++) {
      const mixed = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % SIZE] as number) & 0x7fffffff);
      state[i] = (state[(i + OFFSET) % SIZE] as number) ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    index = 0;
  };

  return () => {
    if (index === SIZE) refill();
    let y = state[index++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}
