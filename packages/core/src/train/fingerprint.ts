import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { TrainOptions } from "./options.ts";
import { cpuRunSizes } from "./run-sizes.ts";
import type { TrainingRun } from "./training-run.ts";

/** One piece takes about a millisecond; between two the event loop turns. */
const PIECE = 1 << 20;

async function hashOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (let start = 0; start < bytes.length; start += PIECE) {
    hash.update(bytes.subarray(start, start + PIECE));
    await setImmediate();
  }
  return hash.digest("hex");
}

/**
 * What must be equal for a checkpoint to be continued: options, parameter groups, number of samples, names and shapes of
 * parameters, the training graph with the weights embedded in it, and the probabilities of its dropout. Weights in files and the samples themselves are
 * taken on trust: reading them all would cost more than they are worth. Threads, device, isolation and recomputation may change; another
 * number of threads or device may change the last bits of results, and so may a cache of activations, unless it rounds to float16.
 */
export async function fingerprintOf<Sample>(
  run: TrainingRun<Sample>,
  options: TrainOptions,
): Promise<Record<string, unknown>> {
  const {
    threads: _threads,
    device: _device,
    isolation: _isolation,
    recompute: _recompute,
    availableMemory: _memory,
    prefixCache,
    ...rest
  } = options;
  // The default is another one on a GPU, and devices may change.
  const given = { ...rest, microBatchTokens: rest.microBatchTokens ?? cpuRunSizes.maxTokens };
  return {
    options:
      typeof prefixCache === "object" && prefixCache.precision === "float16"
        ? { ...given, prefixCache: "float16" }
        : given,
    groups: run.groups ?? [],
    samples: run.data.samples.length,
    parameters: Object.fromEntries(Object.entries(run.parameters).map(([name, { dims }]) => [name, [...dims]])),
    trained: run.training.parameters,
    dropout: run.training.dropout.map(({ draw }) => draw),
    graph: await hashOf(run.training.graph.bytes),
  };
}
