import { streamSeed } from "../random/random.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { batchesOf, epochOrder, groupByLength } from "./batch-order.ts";
import { type MicroBatchOptions, planMicroBatches } from "./micro-batches.ts";
import type { TrainOptions } from "./options.ts";
import { runSizes } from "./run-sizes.ts";
import type { TrainingRun } from "./training-run.ts";

/** Limits under which a batch is one run. */
const WHOLE: MicroBatchOptions = { maxTokens: Number.MAX_SAFE_INTEGER, runCost: Number.POSITIVE_INFINITY };

/** What one optimiser step sees. */
export interface Batch {
  /** Feeds of its micro-batches. */
  readonly runs: Feeds[];
  /** The samples of each micro-batch, by their index in the data. */
  readonly members: readonly Int32Array[];
  readonly samples: number;
  readonly realTokens: number;
  readonly paddedTokens: number;
}

/**
 * Makes the batch of any step, a function of (seed, step, samples) alone. Meant to be asked for one step after the other:
 * the order of the epoch is kept.
 */
export function createBatches<Sample>(
  { data, training }: TrainingRun<Sample>,
  options: TrainOptions,
  stepsPerEpoch: number,
): (step: number) => Batch {
  const isWhole = data.wholeBatch || training.couplesSamples;
  const limits = isWhole ? WHOLE : runSizes(options);
  const lengthOf = (sample: number): number => data.lengthOf(data.samples[sample] as Sample);
  const orderOf = (epoch: number): Int32Array => {
    const order = epochOrder(data.samples.length, options.seed, epoch);
    const { groupByLength: isGrouped, batchSize, seed } = options;
    return isGrouped ? groupByLength(order, lengthOf, batchSize, streamSeed(seed, epoch)) : order;
  };
  let epochNow = -1;
  let batches: Int32Array[] = [];
  return (step) => {
    const epoch = Math.floor(step / stepsPerEpoch);
    if (epoch !== epochNow) {
      batches = batchesOf(orderOf(epoch), options.batchSize);
      epochNow = epoch;
    }
    const indices = batches[step % stepsPerEpoch] ?? new Int32Array();
    const items = Array.from(indices, (i) => data.samples[i] as Sample);
    const plan = planMicroBatches(
      items.map((item) => data.lengthOf(item)),
      limits,
    );
    const runs = plan.runs.map((run, k) =>
      data.collate(
        Array.from(run, (i) => items[i] as Sample),
        `${step}.${k}`,
      ),
    );
    const members = plan.runs.map((run) => run.map((i) => indices[i] as number));
    return { runs, members, samples: items.length, realTokens: plan.realTokens, paddedTokens: plan.paddedTokens };
  };
}
