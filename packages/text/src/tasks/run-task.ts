import { type Feeds, type Metrics, type Outputs, PeftError, planMicroBatches } from "@onnx-peft/core";
import type { BatchPrediction, TextTask } from "./task.ts";

/** Padded tokens of one forward run; nothing is kept for a backward pass, so it may be larger than in training. */
const FORWARD_TOKENS = 1024;

/** Name of the output that predictions are read from. */
export const PREDICTION = "prediction";

/** Only the feeds a graph takes: exports differ in whether they have token types. */
export function feedsFor(names: ReadonlySet<string>, feeds: Feeds): Feeds {
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => names.has(name)));
}

/**
 * Predictions for a data set, in length-sorted batches, so that little padding is computed. They come in the order they
 * were run; `indices` says which samples they hold.
 */
export async function predictAll<Sample>(
  task: TextTask<Sample>,
  samples: readonly Sample[],
  padId: number,
  names: ReadonlySet<string>,
  run: (feeds: Feeds) => Promise<Outputs>,
): Promise<BatchPrediction[]> {
  if (samples.length === 0) return [];
  const plan = planMicroBatches(
    samples.map((s) => task.lengthOf(s)),
    { maxTokens: FORWARD_TOKENS },
  );
  const predictions: BatchPrediction[] = [];
  for (const indices of plan.runs) {
    const batch = Array.from(indices, (i) => samples[i] as Sample);
    const output = (await run(feedsFor(names, task.inputs(batch, padId))))[PREDICTION];
    if (!(output?.data instanceof Float32Array))
      throw new PeftError("PREDICTION", `The graph gave no float32 output "${PREDICTION}".`);
    predictions.push({ indices: [...indices], output: { dims: output.dims, data: output.data } });
  }
  return predictions;
}

/** Metrics of a data set. */
export async function evaluateTask<Sample>(
  task: TextTask<Sample>,
  samples: readonly Sample[],
  padId: number,
  names: ReadonlySet<string>,
  run: (feeds: Feeds) => Promise<Outputs>,
): Promise<Metrics> {
  return task.metrics(samples, await predictAll(task, samples, padId, names, run));
}
