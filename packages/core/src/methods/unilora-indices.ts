import type { SiteShape } from "../adapters/site.ts";
import { numpyRandom } from "../random/numpy-random.ts";

/** Which entry of a vector every value of some factors is, and what it is multiplied by. */
export interface Assignment {
  /** One entry for each value: A and then B of every module, row after row. */
  readonly indices: Int32Array;
  /** 1 / sqrt(number of uses) of every entry, 0 for one without. */
  readonly scales: Float32Array;
  /** Where each module's part begins, by its name. */
  readonly starts: ReadonlyMap<string, number>;
}

/**
 * Every entry floor(n / length) times, some of them once more, in an order that is drawn: with the factors, the projection of a vector
 * to all values of all modules has orthonormal columns.
 */
export function assign(sites: readonly SiteShape[], r: number, length: number, seed: number): Assignment {
  const starts = new Map<string, number>();
  let count = 0;
  for (const { name, inFeatures, outFeatures } of sites) {
    starts.set(name, count);
    count += r * (inFeatures + outFeatures);
  }
  const each = Math.floor(count / length);
  const random = numpyRandom(seed);
  const indices = new Int32Array(count);
  for (let i = 0; i < each * length; i++) indices[i] = Math.floor(i / each);
  if (count > each * length) indices.set(random.choice(length, count - each * length), each * length);
  random.shuffle(indices);
  const uses = new Float32Array(length);
  for (const index of indices) uses[index] = (uses[index] as number) + 1;
  const scales = uses.map((n) => (n === 0 ? 0 : 1 / Math.sqrt(n)));
  return { indices, scales, starts };
}

const known = new WeakMap<readonly SiteShape[], Map<string, Assignment>>();

/** {@link assign}, once for a list of modules: all of them read from one assignment. */
export function assignmentFor(sites: readonly SiteShape[], r: number, length: number, seed: number): Assignment {
  const ofSites = known.get(sites) ?? new Map<string, Assignment>();
  known.set(sites, ofSites);
  const key = `${r} ${length} ${seed}`;
  const made = ofSites.get(key) ?? assign(sites, r, length, seed);
  ofSites.set(key, made);
  return made;
}
