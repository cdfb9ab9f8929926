import { checkSameLength } from "./confusion-matrix.ts";

/**
 * Share of predictions that equal their label.
 *
 * @returns a number in [0, 1].
 * @throws PeftError METRIC_INPUT for different lengths or no values.
 * @example
 * accuracy([0, 1, 1], [0, 0, 1]); // 0.6666666666666666
 */
export function accuracy(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  checkSameLength(predictions, labels);
  let correct = 0;
  for (let i = 0; i < labels.length; i++) if (predictions[i] === labels[i]) correct++;
  return correct / labels.length;
}
