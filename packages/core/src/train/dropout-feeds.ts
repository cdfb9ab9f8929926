import { PeftError } from "../errors.ts";
import { type Draw, dropoutMaskName, keptPoolName, maskRangeNames, poolName } from "../graph/dropout.ts";
import { evaluateDim } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";
import { createRandom, type Random, streamSeed } from "../random/random.ts";
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

/** Values, or bytes that say of values whether they are kept. */
type Pool = Float32Array | Uint8Array;

/** Equal parts that a distribution of gaps is cut into: two of them make one 32-bit draw. */
const PARTS = 65536;

/**
 * Distances from one dropped value to the next, each as likely as the others: the geometric distribution with parameter p, at the
 * middles of equal parts of its range.
 */
function dropGaps(probability: number): Uint32Array {
  const perLog = 1 / Math.log1p(-probability);
  const gapOf = (part: number): number => 1 + Math.floor(perLog * Math.log((part + 0.5) / PARTS));
  return Uint32Array.from({ length: PARTS }, (_, part) => Math.min(gapOf(part), 2 ** 32 - 1));
}

/** 0 wherever one gap after the other ends, else `kept`. Draws where the zeros are and not every value: few draws for a small p. */
function fillMasks(pool: Pool, gaps: Uint32Array, kept: number, uint32: () => number): void {
  pool.fill(kept);
  for (let i = -1; i < pool.length; ) {
    const bits = uint32();
    i += gaps[bits & 0xffff] as number;
    if (i < pool.length) pool[i] = 0;
    i += gaps[bits >>> 16] as number;
    if (i < pool.length) pool[i] = 0;
  }
}

/** log(u / (1 - u)): a logistic distribution. u is the middle of one of 2^32 equal parts, never 0 or 1. */
function fillLogistic(pool: Float32Array, uint32: () => number): void {
  for (let i = 0; i < pool.length; i++) {
    const u = (uint32() + 0.5) / 4294967296;
    pool[i] = Math.log(u) - Math.log1p(-u);
  }
}

/** What a kept value is multiplied by: 1/(1-p), where p is that of the gaps, so that the expectation is exactly 1. */
const scaleOf = (gaps: Uint32Array): number => 1 / (1 - PARTS / gaps.reduce((sum, gap) => sum + gap, 0));

/** What values that dropout keeps are multiplied by. */
export const keptScale = (probability: number): number => scaleOf(dropGaps(probability));

/**
 * What fills a pool, made once for each probability or distribution. Dropout: 0 with probability p, else {@link keptScale}, or 1 in a
 * pool of bytes.
 */
function poolFiller(draw: Draw): (pool: Pool, random: Random) => void {
  const values = (fill: (pool: Float32Array, random: Random) => void) => (pool: Pool, random: Random) => {
    if (pool instanceof Float32Array) fill(pool, random);
  };
  if (draw === "normal") return values((pool, random) => random.fillNormal(pool, 0, 1));
  if (draw === "logistic") return values((pool, random) => fillLogistic(pool, random.uint32));
  const gaps = dropGaps(draw);
  const scale = scaleOf(gaps);
  return (pool, random) => fillMasks(pool, gaps, pool instanceof Uint8Array ? 1 : scale, random.uint32);
}

/** Length of a pool whose largest mask has `largest` values: twice as long, so that masks overlap only in part. */
const poolLength = (largest: number): number => Math.max(SHORTEST_POOL, 2 * largest);

/** Bytes of the pools behind all masks of a run. @param symbols sizes of the graph's symbols in it. */
export function dropoutPoolBytes(sites: readonly DropoutSite[], symbols: ReadonlyMap<string, number>): number {
  const largest = new Map<Draw, number>();
  for (const { draw, size } of sites) {
    largest.set(draw, Math.max(largest.get(draw) ?? 0, evaluateDim(size, symbols) ?? 0));
  }
  return [...largest.values()].reduce((sum, size) => sum + 4 * poolLength(size), 0);
}

export interface DropoutFeedsSetup {
  readonly sites: readonly DropoutSite[];
  /** Inputs of the graph whose symbols give the sizes of masks. */
  readonly inputs: readonly Value[];
  /** Sizes of other symbols, the same in every run; default none. */
  readonly sizes?: ReadonlyMap<string, number>;
  /** Inputs that the session has: a site that nothing in the finished graph depends on has none. */
  readonly inputNames: readonly string[];
  readonly seed: number | string;
}

/** Masks begin at multiples of this many values (64 bytes), as the engine aligns its own tensors. */
const ALIGNMENT = 16;

/**
 * Makes the feeds of dropout and of noise: a fresh pool of values per probability or distribution and optimiser step, and for each site and micro-batch a
 * view into it at an offset of its own; nothing is copied. Of a graph that cuts its masks itself (`withPooledMasks`) the pool and the offsets are fed. The numbers are a function of (seed, step, shapes) alone: resuming
 * needs no state. Pools live on, so the feeds of a step are overwritten by the next.
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
  const used = sites.flatMap(({ draw, size }, site) => {
    const name = dropoutMaskName(site);
    const isCut = known.has(maskRangeNames(name)[0]);
    return known.has(name) || isCut ? [{ site, name, draw, size, isCut }] : [];
  });
  const buffers = new Map<Draw, Pool>();
  const fillers = new Map(Array.from(new Set(used.map(({ draw }) => draw)), (draw) => [draw, poolFiller(draw)]));

  const sizesOf = (run: Feeds): number[] => {
    const symbols = new Map([...(setup.sizes ?? []), ...symbolSizes(inputs, run)]);
    return used.map(({ site, size }) => {
      const n = evaluateDim(size, symbols);
      if (n !== null) return n;
      throw new PeftError(
        "DROPOUT_SIZE",
        `expected the size of a dropout mask to follow from the inputs' shapes, received "${size}" at dropout site ${site}.`,
        { hint: "Give the inputs symbolic dimensions that this size is made of.", details: { site, size } },
      );
    });
  };

  const isBytes = (draw: Draw): boolean => known.has(keptPoolName(draw));

  const fill = (draw: Draw, length: number, step: number): Pool => {
    let buffer = buffers.get(draw);
    if (!buffer || buffer.length < length) {
      buffer = isBytes(draw) ? new Uint8Array(length) : new Float32Array(length);
      buffers.set(draw, buffer);
    }
    const pool = buffer.subarray(0, length);
    fillers.get(draw)?.(pool, createRandom(streamSeed(seed, "dropout", step, draw)));
    return pool;
  };

  return (runs, step) => {
    const sizes = runs.map(sizesOf);
    const pools = new Map<Draw, Pool>();
    for (const draw of new Set(used.map((site) => site.draw))) {
      const own = sizes.flatMap((run) => run.filter((_, i) => used[i]?.draw === draw));
      pools.set(draw, fill(draw, poolLength(Math.max(0, ...own)), step));
    }
    return sizes.map((run, k) => {
      const random = createRandom(streamSeed(seed, "dropout-offsets", step, k));
      const masks = used.flatMap(({ name, draw, isCut }, i): [string, RuntimeTensor][] => {
        const size = run[i] ?? 0;
        const pool = pools.get(draw) as Pool;
        const first = ALIGNMENT * random.integer(Math.floor((pool.length - size) / ALIGNMENT) + 1);
        if (!isCut) return [[name, { type: "float32", dims: [size], data: pool.subarray(first, first + size) }]];
        const [start, end] = maskRangeNames(name);
        return [
          isBytes(draw)
            ? [keptPoolName(draw), { type: "bool", dims: [pool.length], data: pool }]
            : [poolName(draw), { type: "float32", dims: [pool.length], data: pool }],
          [start, { type: "int64", dims: [1], data: BigInt64Array.of(BigInt(first)) }],
          [end, { type: "int64", dims: [1], data: BigInt64Array.of(BigInt(first + size)) }],
        ];
      });
      return Object.fromEntries(masks);
    });
  };
}
