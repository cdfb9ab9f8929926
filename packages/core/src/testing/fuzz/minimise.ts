import { replaceBytes } from "./mutate-bytes.ts";

const nothing = new Uint8Array(0);

/**
 * A smaller input that still fails: ever finer parts are left out, then bytes are made zero (delta debugging, Zeller 2002,
 * in its simple form). `fails` is asked at most `budget` times.
 */
export async function minimise(
  input: Uint8Array,
  fails: (candidate: Uint8Array) => Promise<boolean>,
  budget = 2000,
): Promise<Uint8Array> {
  let best = input;
  let left = budget;
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    if (left-- <= 0 || !(await fails(candidate))) return false;
    best = candidate;
    return true;
  };
  for (let size = Math.ceil(best.length / 2); size >= 1 && left > 0; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.length && left > 0; ) {
      const candidate = replaceBytes(best, at, Math.min(best.length, at + size), nothing);
      if (!(await attempt(candidate))) at += size;
    }
  }
  for (let at = 0; at < best.length && left > 0; at++) {
    if (best[at] === 0) continue;
    const zeroed = best.slice();
    zeroed[at] = 0;
    await attempt(zeroed);
  }
  return best;
}
