import { setImmediate } from "node:timers/promises";
import { recomputeBlocks } from "../autodiff/recompute/recompute-blocks.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { estimateMemory, type MemoryEstimate } from "../memory/estimate.ts";
import { freeMemory } from "../memory/free-memory.ts";
import type { Graph } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";
import { dropoutPoolBytes, symbolSizes } from "./dropout-feeds.ts";
import { type TrainOptions, type TrainOptionsInput, trainOptions } from "./options.ts";
import { runSizes } from "./run-sizes.ts";
import { shapedGraph } from "./shaped-graph.ts";
import type { TrainingRun } from "./training-run.ts";

/** Smallest micro-batch that is proposed: below, a run is mostly overhead. */
const LEAST_TOKENS = 64;

/** What of the options decides how much memory a run takes. */
type Settings = Pick<TrainOptions, "microBatchTokens" | "recompute">;

/**
 * Estimates the peak memory of a training process, from its graphs and the longest samples of its data.
 * @param input default the run's own options.
 * @param changes of them.
 * @param longest samples longer than this are left out; default none.
 * @throws PeftError CONFIG_INVALID
 * @example
 * const { totalBytes } = await estimateRun(run, run.options, { recompute: "blocks" });
 */
export async function estimateRun<Sample>(
  run: TrainingRun<Sample>,
  input: TrainOptionsInput = run.options,
  changes: Partial<Settings> = {},
  longest = Number.POSITIVE_INFINITY,
): Promise<MemoryEstimate> {
  const options = parseConfig(trainOptions, input, "training options");
  const settings = { ...options, ...changes };
  const { graph, opset } = shapedGraph(run.training.graph);
  await setImmediate(); // the caller's event loop turns between the parts
  const trained = settings.recompute === "blocks" ? recomputeBlocks(graph, opset) : graph;
  await setImmediate();
  const evaluation = run.evaluation ? shapedGraph(run.evaluation.graph).graph : undefined;
  await setImmediate();
  const trainedParameters = Object.values(run.parameters).reduce((sum, { dims }) => sum + elementCount(dims), 0);
  const sizes = largestSizes(run, graph, options.batchSize, runSizes(settings).maxTokens, longest);
  const dropoutBytes = dropoutPoolBytes(run.training.dropout, sizes);
  return estimateMemory({
    graph: trained,
    sizes,
    trainedParameters,
    dropoutBytes,
    ...(evaluation ? { evaluation } : {}),
  });
}

/** Bytes that a run may take; null where nothing limits it, or where nobody says what is free: on a GPU. */
export function memoryLimit({
  availableMemory,
  device,
}: Pick<TrainOptions, "availableMemory" | "device">): number | null {
  if (availableMemory === "unlimited") return null;
  return availableMemory ?? (device === "cpu" ? freeMemory() : null);
}

/**
 * Refuses a run that would not fit into memory, before anything is started, and names settings that would.
 * @param availableBytes that it may take; null for no limit.
 * @throws PeftError MEMORY_EXCEEDED
 */
export async function checkMemory<Sample>(
  run: TrainingRun<Sample>,
  options: TrainOptions,
  availableBytes: number | null,
): Promise<void> {
  if (availableBytes === null) return;
  const { totalBytes, weightBytes } = await estimateRun(run, options);
  if (totalBytes <= availableBytes) return;
  const fitting = await settingsThatFit(run, options, availableBytes);
  if (totalBytes - 0.75 * weightBytes <= availableBytes) fitting.push("a base with 8-bit weights");
  const hint =
    fitting.length > 0
      ? `It would fit with ${fitting.join(", or with ")}. `
      : "No setting that was tried would fit: choose a smaller model or fewer modules. ";
  throw new PeftError(
    "MEMORY_EXCEEDED",
    `Training would take about ${megabytes(totalBytes)}, and ${megabytes(availableBytes)} are free.`,
    {
      hint: `${hint}availableMemory says how much may be taken, or "unlimited".`,
      details: { estimatedBytes: totalBytes, availableBytes, fitting },
    },
  );
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;

/** Changes of the options that bring the estimate below the limit, those that cost least time first. */
async function settingsThatFit<Sample>(
  run: TrainingRun<Sample>,
  options: TrainOptions,
  availableBytes: number,
): Promise<string[]> {
  const fits = async (settings: Settings, longest?: number): Promise<boolean> =>
    (await estimateRun(run, options, settings, longest)).totalBytes <= availableBytes;
  const found: string[] = [];
  const isWhole = run.data.wholeBatch || run.training.couplesSamples;
  const { recompute } = options;
  const microBatchTokens = runSizes(options).maxTokens;
  for (let tokens = microBatchTokens >> 1; !isWhole && tokens >= LEAST_TOKENS; tokens >>= 1) {
    if (await fits({ recompute, microBatchTokens: tokens })) {
      found.push(`microBatchTokens ${tokens}`);
      break;
    }
  }
  if (recompute === "none") {
    if (await fits({ recompute: "blocks", microBatchTokens })) found.push('recompute "blocks"');
    else if (!isWhole && (await fits({ recompute: "blocks", microBatchTokens: LEAST_TOKENS }))) {
      found.push(`recompute "blocks" and microBatchTokens ${LEAST_TOKENS}`);
    }
  }
  const longest = Math.max(...lengthsOf(run));
  for (let length = longest >> 1; found.length === 0 && length >= 8; length >>= 1) {
    if (lengthsOf(run).some((l) => l <= length) && (await fits({ recompute, microBatchTokens }, length))) {
      found.push(`samples of at most ${length} tokens`);
    }
  }
  return found;
}

function lengthsOf<Sample>({ data }: TrainingRun<Sample>): number[] {
  return Array.from({ length: data.samples.length }, (_, i) => data.lengthOf(data.samples[i] as Sample));
}

/** Sizes of the graph's symbols in the largest micro-batch: that of the longest samples. */
function largestSizes<Sample>(
  run: TrainingRun<Sample>,
  graph: Graph,
  batchSize: number,
  microBatchTokens: number,
  longest: number,
): Map<string, number> {
  const { data, training, parameters } = run;
  const lengths = lengthsOf(run);
  const order = lengths.flatMap((length, i) => (length <= longest ? [i] : []));
  order.sort((a, b) => (lengths[b] as number) - (lengths[a] as number));
  const batch = order.slice(0, batchSize);
  const isWhole = data.wholeBatch || training.couplesSamples;
  const places = fullestRun(
    batch.map((i) => lengths[i] as number),
    isWhole ? Number.POSITIVE_INFINITY : microBatchTokens,
  );
  const samples = batch.slice(...places).map((i) => data.samples[i] as Sample);
  const feeds = data.collate(samples, "memory");
  const sizes = symbolSizes(training.inputs, feeds);
  for (const { name, shape } of graph.inputs) {
    shape.forEach((dim, axis) => {
      const size = parameters[name]?.dims[axis];
      if (typeof dim === "string" && size !== undefined) sizes.set(dim, size);
    });
  }
  return sizes;
}

/** First and last place (exclusive) of the run with most padded tokens that samples of these lengths, longest first, allow. */
function fullestRun(lengths: readonly number[], maxTokens: number): [first: number, end: number] {
  const runs = lengths.map((length, first): [number, number] => {
    const fitting = Math.max(1, Math.floor(maxTokens / length));
    return [first, Math.min(first + fitting, lengths.length)];
  });
  const tokensOf = ([first, end]: readonly [number, number]): number => (end - first) * (lengths[first] ?? 0);
  return runs.reduce((most, run) => (tokensOf(run) > tokensOf(most) ? run : most), [0, 0]);
}
