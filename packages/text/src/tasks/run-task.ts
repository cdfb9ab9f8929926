import { type Feeds, type Metrics, type Outputs, PeftError, planMicroBatches } from "@onnx-peft/core";
import type { BatchPrediction, TextTask } from "./task.ts";

/** Padded tokens of one forward run; nothing is kept for a backward pass, so it may be larger than in training. */
const FORWARD_TOKENS = 1024;

/** Name of the output that predictions are read from. */
export const PREDICTION = "prediction";

/** Only the feeds a graph takes: encoders differ in whether they have token types. */
export function feedsFor(names: ReadonlySet<string>, feeds: Feeds): Feeds {
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => names.has(name)));
}

/** How a task's forward graph is run. */
export interface TaskRun<Sample> {
  readonly task: TextTask<Sample>;
  readonly padId: number;
  /** Inputs of the graph. */
  readonly inputNames: ReadonlySet<string>;
  run(feeds: Feeds): Promise<Outputs>;
}

/**
 * Predictions for a data set, in length-sorted batches, so that little padding is computed. They come in the order they
 * were run; `indices` says which samples they hold.
 */
export async function predictAll<Sample>(
  { task, padId, inputNames, run }: TaskRun<Sample>,
  samples: readonly Sample[],
): Promise<BatchPrediction[]> {
  if (samples.length === 0) return [];
  const plan = planMicroBatches(
    samples.map((sample) => task.lengthOf(sample)),
    { maxTokens: FORWARD_TOKENS },
  );
  const predictions: BatchPrediction[] = [];
  for (const indices of plan.runs) {
    const batch = Array.from(indices, (i) => samples[i] as Sample);
    const output = (await run(feedsFor(inputNames, task.inputs(batch, padId))))[PREDICTION];
    if (!(output?.data instanceof Float32Array))
      throw new PeftError("PREDICTION", `The graph gave no float32 output "${PREDICTION}".`);
    predictions.push({ indices: [...indices], output: { dims: output.dims, data: output.data } });
  }
  return predictions;
}

/** Metrics of a data set that is not empty. */
export async function evaluateTask<Sample>(run: TaskRun<Sample>, samples: readonly Sample[]): Promise<Metrics> {
  return run.task.metrics(samples, await predictAll(run, samples));
}

/**
 * Rows of all batches, one per sample and in the order of the samples: logits [classes], embeddings [hidden], or the logits of
 * all tokens one after another, padding included.
 * @param count number of samples.
 * @example
 * const rows = predictionRows(await tuned.predict(samples), samples.length);
 * const best = rows.map((row) => row.indexOf(Math.max(...row)));
 */
export function predictionRows(predictions: readonly BatchPrediction[], count: number): Float32Array[] {
  const rows: Float32Array[] = new Array(count);
  for (const { indices, output } of predictions) {
    const width = output.data.length / indices.length;
    indices.forEach((index, row) => {
      rows[index] = output.data.slice(row * width, (row + 1) * width);
    });
  }
  return rows;
}

/** Index of the largest value; the first of equal ones. */
export function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
