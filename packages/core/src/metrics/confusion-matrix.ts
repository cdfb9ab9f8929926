import { PeftError } from "../errors.ts";

/** @throws PeftError METRIC_INPUT unless both have the same length, at least `atLeast`. */
export function checkSameLength(a: ArrayLike<unknown>, b: ArrayLike<unknown>, atLeast = 1): void {
  if (a.length === b.length && a.length >= atLeast) return;
  throw new PeftError(
    "METRIC_INPUT",
    `expected two lists of the same length, at least ${atLeast}, received ${a.length} and ${b.length} values.`,
  );
}

/** A stray large id must not ask for a matrix of its square. */
const MAX_INFERRED_LABELS = 4096;

/**
 * Counts of true class against predicted class.
 *
 * @param predictions class ids 0 .. numLabels-1.
 * @param labels true class ids, same length.
 * @param numLabels default: one more than the largest id.
 * @returns `matrix[truth][prediction]`, [numLabels, numLabels].
 * @throws PeftError METRIC_INPUT for different lengths, no values, or ids out of range.
 * @example
 * confusionMatrix([0, 1, 1], [0, 0, 1]); // [[1, 1], [0, 1]]
 */
export function confusionMatrix(
  predictions: ArrayLike<number>,
  labels: ArrayLike<number>,
  numLabels?: number,
): number[][] {
  checkSameLength(predictions, labels);
  let size = numLabels ?? 0;
  const limit = numLabels ?? MAX_INFERRED_LABELS;
  for (const ids of [predictions, labels]) {
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (!Number.isInteger(id) || id < 0 || id >= limit) {
        throw new PeftError("METRIC_INPUT", `expected class ids in [0, ${limit}), received ${id} at position ${i}.`, {
          hint: "Leave out ignored positions such as -100 first.",
        });
      }
      if (numLabels === undefined) size = Math.max(size, id + 1);
    }
  }
  const matrix = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (let i = 0; i < labels.length; i++) {
    const row = matrix[labels[i] as number] as number[];
    const column = predictions[i] as number;
    row[column] = (row[column] as number) + 1;
  }
  return matrix;
}
