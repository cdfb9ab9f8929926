import { PeftError } from "../errors.ts";
import type { Seed } from "../random/hash-seed.ts";
import { createRandom, streamSeed } from "../random/random.ts";

/**
 * The order in which an epoch visits its samples: a pure function of its arguments, so that any epoch can be resumed without
 * replaying those before it.
 *
 * @param n number of samples.
 * @param epoch from 0.
 * @returns a permutation of 0 .. n-1.
 * @example
 * epochOrder(1000, 42, 3); // the same in a resumed run
 */
export function epochOrder(n: number, seed: Seed, epoch: number): Int32Array {
  return createRandom(streamSeed(seed, "data-order", epoch)).permutation(n);
}

/** Batches whose samples are sorted together; fewer in small data, so that batches stay mixed (the figures of transformers). */
const LARGEST_STRETCH = 50;
const LEAST_STRETCHES = 4;

/**
 * An epoch's order in which the samples of a batch have like lengths, so that little padding is computed: the random order is cut
 * into stretches of up to 50 batches, each is sorted by length, and the full batches are mixed again. Which texts meet in a batch,
 * and when, depends on chance as before, but a batch of long texts no longer holds short ones.
 *
 * @param order of {@link epochOrder}.
 * @param lengthOf length of a sample.
 * @returns a permutation whose batches, cut at multiples of `batchSize`, are the groups; a last one that is not full stays last.
 * @throws PeftError BATCH_SIZE_INVALID.
 * @example
 * const grouped = groupByLength(epochOrder(n, seed, epoch), (i) => samples[i].inputIds.length, 16, streamSeed(seed, epoch));
 */
export function groupByLength(
  order: Int32Array,
  lengthOf: (sample: number) => number,
  batchSize: number,
  seed: Seed,
): Int32Array {
  checkCounts(order.length, batchSize);
  const batches = Math.max(1, Math.min(Math.floor(order.length / (LEAST_STRETCHES * batchSize)), LARGEST_STRETCH));
  const sorted = order.slice();
  for (let start = 0; start < order.length; start += batches * batchSize) {
    sorted.subarray(start, start + batches * batchSize).sort((a, b) => lengthOf(b) - lengthOf(a));
  }
  const grouped = sorted.slice();
  createRandom(streamSeed(seed, "length-groups"))
    .permutation(Math.floor(order.length / batchSize))
    .forEach((from, to) => {
      grouped.set(sorted.subarray(from * batchSize, (from + 1) * batchSize), to * batchSize);
    });
  return grouped;
}

export interface BatchOptions {
  /** Leave out a last batch that is not full. Default false. */
  dropLast?: boolean;
}

function checkCounts(n: number, batchSize: number): void {
  if (Number.isInteger(n) && n >= 0 && Number.isInteger(batchSize) && batchSize >= 1) return;
  throw new PeftError(
    "BATCH_SIZE_INVALID",
    `expected whole numbers n >= 0 and batchSize >= 1, received ${n} and ${batchSize}.`,
  );
}

/** Batches of one epoch. */
export function batchCount(n: number, batchSize: number, { dropLast = false }: BatchOptions = {}): number {
  checkCounts(n, batchSize);
  return dropLast ? Math.floor(n / batchSize) : Math.ceil(n / batchSize);
}

/**
 * Cuts an order into batches; the last one may be smaller. To resume at a batch, start at its index.
 *
 * @returns views into `order`.
 * @throws PeftError BATCH_SIZE_INVALID.
 * @example
 * const { epoch, batchIndex } = positionOfStep(step, n, 16);
 * for (const batch of batchesOf(epochOrder(n, seed, epoch), 16).slice(batchIndex)) train(batch);
 */
export function batchesOf(order: Int32Array, batchSize: number, options: BatchOptions = {}): Int32Array[] {
  const count = batchCount(order.length, batchSize, options);
  return Array.from({ length: count }, (_, i) => order.subarray(i * batchSize, (i + 1) * batchSize));
}

/**
 * Where an optimiser step stands when every batch is one step.
 *
 * @param step batches done before it, over all epochs.
 * @throws PeftError BATCH_SIZE_INVALID, also when an epoch has no batch at all.
 */
export function positionOfStep(
  step: number,
  n: number,
  batchSize: number,
  options: BatchOptions = {},
): { epoch: number; batchIndex: number } {
  const count = batchCount(n, batchSize, options);
  if (count === 0) {
    throw new PeftError(
      "BATCH_SIZE_INVALID",
      `expected at least one batch an epoch, received ${n} samples in batches of ${batchSize}.`,
      {
        hint: "Lower the batch size or keep the last batch.",
      },
    );
  }
  return { epoch: Math.floor(step / count), batchIndex: step % count };
}
