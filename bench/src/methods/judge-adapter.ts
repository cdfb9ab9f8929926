import type { Adapter } from "@onnx-peft/core";
import { type ClassificationSample, openPredictor, predictionRows } from "@onnx-peft/text";
import type { GlossTask } from "./gloss-task.ts";

type Sample = ClassificationSample & { readonly label: number };

/** Logits [classes] of every text, with an adapter merged into the model, or without one. */
export async function logitsOf(
  { model, task }: Pick<GlossTask, "model" | "task">,
  adapter: Adapter | null,
  texts: readonly Sample[],
): Promise<Float32Array[]> {
  await using predictor = openPredictor({ model, task, ...(adapter ? { adapter } : {}), threads: 1 });
  return predictionRows(await predictor.predict(texts), texts.length);
}

/** Share of texts whose label has the largest logit, among all classes or some. */
export function accuracyOf(
  rows: readonly Float32Array[],
  texts: readonly Sample[],
  classes?: readonly number[],
): number {
  const best = (row: Float32Array): number =>
    (classes ?? [...row.keys()]).reduce((a, b) => ((row[b] as number) > (row[a] as number) ? b : a));
  return texts.filter(({ label }, i) => best(rows[i] as Float32Array) === label).length / texts.length;
}

/** Mean cross-entropy. */
export function lossOf(rows: readonly Float32Array[], texts: readonly Sample[]): number {
  const losses = texts.map(({ label }, i) => {
    const row = rows[i] as Float32Array;
    const largest = Math.max(...row);
    return largest + Math.log(row.reduce((sum, v) => sum + Math.exp(v - largest), 0)) - (row[label] as number);
  });
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}
