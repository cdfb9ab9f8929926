import { PeftError } from "../errors.ts";
import { DROPOUT_OFFSETS, dropoutPoolName } from "../graph/dropout.ts";
import { evaluateDim } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import type { DropoutSite } from "./program.ts";

/** Sizes of the symbols of a graph's inputs in one run. */
export function symbolSizes(inputs: readonly Value[], feeds: Feeds): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const { name, shape } of inputs) {
    const dims = feeds[name]?.dims;
    shape.forEach((dim, axis) => {
      const size = dims?.[axis];
      if (typeof dim === "string" && size !== undefined) sizes.set(dim, size);
    });
  }
  return sizes;
}

/** Shortest pool: with small masks, two sites would else often draw the same offset. 64 KB, some 50 us to fill. */
const SHORTEST_POOL = 16384;

/**
 * 0 with probability p, else 1/(1-p). Two values share one 32-bit draw, so p is rounded to a multiple of 2^-16; the kept
 * value belongs to the rounded p, so that the expectation is exactly 1.
 */
function fillPool(pool: Float32Array, probability: number, uint32: () => number): void {
  const threshold = Math.min(65535, Math.round(probability * 65536));
  const kept = 65536 / (65536 - threshold);
  for (let i = 0; i < pool.length; i += 2) {
    const bits = uint32();
    pool[i] = (bits & 0xffff) < threshold ? 0 : kept;
    pool[i + 1] = bits >>> 16 < threshold ? 0 : kept;
  }
}

export interface DropoutFeedsSetup {
  readonly sites: readonly DropoutSite[];
  /** Inputs of the graph whose symbols give the sizes of masks. */
  readonly inputs: readonly Value[];
  /** Inputs that the session has: a pool whose sites are all unused in the finished graph is none. */
  readonly inputNames: readonly string[];
  readonly seed: number | string;
}

/**
 * Makes the feeds of dropout: a fresh pool per probability and optimiser step, and one offset into it per site and
 * micro-batch. A pool is at least twice as long as the largest mask, so that masks overlap only in part. The numbers are a
 * function of (seed, step, shapes) alone: resuming needs no state. Pools are views into arrays that live on, so the feeds
 * of a step are overwritten by the next.
 *
 * @returns a function of the micro-batches of a step and its number, from 0.
 * @throws PeftError DROPOUT_SIZE (from the function) when a mask's size does not follow from the inputs' shapes.
 * @example
 * const feedsOf = createDropoutFeeds({ sites, inputs, inputNames: session.inputNames, seed: 42 });
 * feedsOf(runs, 7).map((masks, k) => session.run({ ...runs[k], ...masks }));
 */
export function createDropoutFeeds(setup: DropoutFeedsSetup): (runs: readonly Feeds[], step: number) => Feeds[] {
  const { sites, inputs, seed } = setup;
  const known = new Set(setup.inputNames);
  if (!known.has(DROPOUT_OFFSETS)) return (runs) => runs.map(() => ({}));
  const used = sites.map(({ probability }) => known.has(dropoutPoolName(probability)));
  const probabilities = [...new Set(sites.filter((_, i) => used[i]).map((site) => site.probability))];
  const buffers = new Map<number, Float32Array>();

  const sizesOf = (run: Feeds): number[] => {
    const symbols = symbolSizes(inputs, run);
    return sites.map(({ size }, i) => {
      if (!used[i]) return 0;
      const n = evaluateDim(size, symbols);
      if (n !== null) return n;
      throw new PeftError(
        "DROPOUT_SIZE",
        `expected the size of a dropout mask to follow from the inputs' shapes, received "${size}" at dropout site ${i}.`,
        { hint: "Give the inputs symbolic dimensions that this size is made of.", details: { site: i, size } },
      );
    });
  };

  const pool = (probability: number, length: number, step: number): RuntimeTensor => {
    let buffer = buffers.get(probability);
    if (!buffer || buffer.length < length) {
      buffer = new Float32Array(length);
      buffers.set(probability, buffer);
    }
    const data = buffer.subarray(0, length);
    fillPool(data, probability, createRandom(streamSeed(seed, "dropout", step, probability)).uint32);
    return { type: "float32", dims: [length], data };
  };

  return (runs, step) => {
    const sizes = runs.map(sizesOf);
    const pools: Record<string, RuntimeTensor> = {};
    const lengths = new Map<number, number>();
    for (const probability of probabilities) {
      let largest = 0;
      for (const run of sizes) {
        run.forEach((size, i) => {
          if (sites[i]?.probability === probability) largest = Math.max(largest, size);
        });
      }
      const length = Math.max(SHORTEST_POOL, 2 * largest);
      lengths.set(probability, length);
      pools[dropoutPoolName(probability)] = pool(probability, length, step);
    }
    return sizes.map((run, k) => {
      const random = createRandom(streamSeed(seed, "dropout-offsets", step, k));
      const offsets = BigInt64Array.from(run, (size, i) => {
        const length = lengths.get(sites[i]?.probability ?? 0) ?? size;
        return BigInt(random.integer(length - size + 1));
      });
      return { ...pools, [DROPOUT_OFFSETS]: { type: "int64", dims: [offsets.length], data: offsets } };
    });
  };
}
