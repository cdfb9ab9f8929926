import { PeftError } from "../errors.ts";

export interface MicroBatchOptions {
  /**
   * Most padded tokens of a run. Default 512: on a CPU the activations of some 512 tokens stay in cache, larger runs are slower
   * per token and need more memory.
   */
  maxTokens?: number;
  /** Most samples of a run; unlimited by default. */
  maxSamples?: number;
  /** Pad each run to a multiple of this length. Default 1. The bound counts this padding too. */
  padToMultipleOf?: number;
  /**
   * What a run costs beside its tokens, in tokens: another run is started where it saves more padding than this. Default 48, about
   * what was measured on CPUs; Infinity for as few runs as the bounds allow.
   */
  runCost?: number;
}

/** How one batch is run. */
export interface MicroBatchPlan {
  /** Sample indices into the batch, longest samples first; each sample is in one run. */
  runs: Int32Array[];
  /** Tokens each sample of a run is padded to. */
  runLengths: number[];
  /** Tokens the engine computes, padding included. */
  paddedTokens: number;
  /** Tokens that carry data. */
  realTokens: number;
  /** Share of computed tokens that is padding, in [0, 1). */
  paddingShare: number;
}

function checkArguments(lengths: readonly number[], limits: Record<string, number>): void {
  const bad = lengths.findIndex((length) => !Number.isInteger(length) || length < 1);
  if (bad >= 0) {
    throw new PeftError(
      "MICRO_BATCH_INVALID",
      `expected whole lengths >= 1, received ${lengths[bad]} at sample ${bad}.`,
    );
  }
  for (const [name, value] of Object.entries(limits)) {
    if (value >= 1 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY)) continue;
    throw new PeftError("MICRO_BATCH_INVALID", `expected a whole number >= 1 as ${name}, received ${value}.`);
  }
}

/** Stands for infinity: above any number of tokens, and exact in sums over a million runs. */
const HIGHEST_COST = 2 ** 32;

/**
 * Cuts a batch into micro-batches: samples are sorted by length and cut into runs, each padded to its own longest sample, so
 * that a run stays within `maxTokens` padded tokens and all runs together cost least: padded tokens, and `runCost` for each run.
 * A sample longer than `maxTokens` runs alone. Longest first: the largest runs, and with them the memory peak, come first. Equal
 * lengths keep their order in the batch, so the plan depends on nothing else. Costs O(n log n + n * samples of a run).
 *
 * @param lengths tokens of each sample of the batch.
 * @throws PeftError MICRO_BATCH_INVALID for lengths or limits below 1.
 * @example
 * planMicroBatches([5, 128, 120, 7], { maxTokens: 256 });
 * // runs [1, 2] and [3, 0], runLengths [128, 7], paddedTokens 270, realTokens 260, paddingShare 0.037
 */
export function planMicroBatches(lengths: readonly number[], options: MicroBatchOptions = {}): MicroBatchPlan {
  const { maxTokens = 512, maxSamples = Number.POSITIVE_INFINITY, padToMultipleOf = 1, runCost = 48 } = options;
  checkArguments(lengths, { maxTokens, maxSamples, padToMultipleOf, runCost });
  const lengthOf = (sample: number): number => lengths[sample] as number;
  const order = Int32Array.from(lengths.keys()).sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const padded = Array.from(order, (sample) => Math.ceil(lengthOf(sample) / padToMultipleOf) * padToMultipleOf);

  const runs: Int32Array[] = [];
  const runLengths: number[] = [];
  let paddedTokens = 0;
  const ends = cheapestCuts(padded, { maxTokens, maxSamples, runCost: Math.min(runCost, HIGHEST_COST) });
  for (let start = 0; start < order.length; ) {
    const [end, length] = [ends[start] as number, padded[start] as number];
    runs.push(order.slice(start, end));
    runLengths.push(length);
    paddedTokens += length * (end - start);
    start = end;
  }
  const realTokens = lengths.reduce((sum, length) => sum + length, 0);
  const paddingShare = paddedTokens === 0 ? 0 : 1 - realTokens / paddedTokens;
  return { runs, runLengths, paddedTokens, realTokens, paddingShare };
}

/**
 * Where a run that begins at each place ends in the cheapest cut of all that follows; from the end of the list, the cost of the
 * rest being known. Of equal costs the one with the longer first run.
 */
function cheapestCuts(
  padded: readonly number[],
  { maxTokens, maxSamples, runCost }: Required<Omit<MicroBatchOptions, "padToMultipleOf">>,
): Int32Array {
  const costs = new Float64Array(padded.length + 1);
  const ends = new Int32Array(padded.length);
  for (let start = padded.length - 1; start >= 0; start--) {
    const length = padded[start] as number;
    const most = Math.max(1, Math.min(Math.floor(maxTokens / length), maxSamples, padded.length - start));
    let best = Number.POSITIVE_INFINITY;
    for (let samples = 1; samples <= most; samples++) {
      const cost = runCost + samples * length + (costs[start + samples] as number);
      if (cost > best) continue;
      best = cost;
      ends[start] = start + samples;
    }
    costs[start] = best;
  }
  return ends;
}
