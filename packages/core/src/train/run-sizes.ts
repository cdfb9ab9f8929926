import type { TrainOptions } from "./options.ts";

/** Bounds of a run for `planMicroBatches`. */
export interface RunSizes {
  readonly maxTokens: number;
  readonly runCost: number;
}

/** On a CPU the activations of some 512 tokens stay in the cache. A run costs about as much as 48 tokens. */
export const cpuRunSizes: RunSizes = { maxTokens: 512, runCost: 48 };

/**
 * A GPU starts some 1,000 kernels for a run, whatever its size: a step of a MiniLM's 2,048 tokens takes 9 ms on an H200, about as
 * long as the processor needs to start them. So padding of some 4,096 tokens costs less than another run.
 */
const gpuRunSizes: RunSizes = { maxTokens: 16_384, runCost: 4096 };

/** How large runs are where the user says nothing, and what a run costs. */
export function runSizes({ microBatchTokens, device }: Pick<TrainOptions, "microBatchTokens" | "device">): RunSizes {
  const { maxTokens, runCost } = device === "cpu" ? cpuRunSizes : gpuRunSizes;
  return { maxTokens: microBatchTokens ?? maxTokens, runCost };
}
