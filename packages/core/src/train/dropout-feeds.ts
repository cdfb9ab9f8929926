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

/** 0 with probability p, else 1/(1-p); the probability is exact to 2^-16, as two sites share one 32-bit draw. */
function fillPool(pool: Float32Array, probability: number, uint32: () => number): void {
  const threshold = Math.round(probability * 65536);
  const kept = 1 / (1 - probability);
  for (let i = 0; i < pool.length; i += 2) {
    const bits = uint32();
    pool[i] = (bits & 0xffff) < threshold ? 0 : kept;
    pool[i + 1] = bits >>> 16 < threshold ? 0 : kept;
  }
}

/**
 * The feeds of dropout for the micro-batches of one optimiser step: a fresh pool per probability, and one offset into
 * it per site and micro-batch. A pool is twice as long as the largest mask, so that masks overlap only in part. A
 * function of (seed, step, shapes) alone: resuming needs no state.
 * @throws PeftError DROPOUT_SIZE when a mask's size does not follow from the inputs' shapes.
 */
export function dropoutFeeds(sites: readonly DropoutSite[], inputs: readonly Value[], runs: readonly Feeds[], seed: number | string, step: number): Feeds[] {
  if (sites.length === 0) return runs.map(() => ({}));
  const sizes = runs.map((feeds) => {
    const symbols = symbolSizes(inputs, feeds);
    return sites.map(({ size }) => {
      const n = evaluateDim(size, symbols);
      if (n === null) throw new PeftError("DROPOUT_SIZE", `The size "${size}" of a dropout mask does not follow from the shapes of the inputs.`);
      return n;
    });
  });
  const pools: Record<string, RuntimeTensor> = {};
  const lengths = new Map<number, number>();
  for (const probability of new Set(sites.map((s) => s.probability))) {
    const largest = Math.max(...sizes.flatMap((run) => run.filter((_, i) => sites[i]?.probability === probability)));
    const data = new Float32Array(2 * largest);
    fillPool(data, probability, createRandom(streamSeed(seed, "dropout", step, probability)).uint32);
    lengths.set(probability, data.length);
    pools[dropoutPoolName(probability)] = { type: "float32", dims: [data.length], data };
  }
  return sizes.map((run, k) => {
    const random = createRandom(streamSeed(seed, "dropout-offsets", step, k));
    const offsets = run.map((size, i) => BigInt(random.integer((lengths.get(sites[i]?.probability ?? 0) ?? 0) - size + 1)));
    return { ...pools, [DROPOUT_OFFSETS]: { type: "int64", dims: [offsets.length], data: BigInt64Array.from(offsets) } };
  });
}
