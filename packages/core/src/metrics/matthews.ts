import { confusionMatrix } from "./confusion-matrix.ts";

/**
 * Matthews correlation coefficient for two or more classes (Gorodkin 2004):
 * (c·s - Σ pₖtₖ) / sqrt((s² - Σ pₖ²)(s² - Σ tₖ²)) with c correct, s samples, pₖ predicted and tₖ true members of class k.
 *
 * @returns a number in [-1, 1]; 0 when all labels or all predictions are one class.
 * @throws PeftError METRIC_INPUT as `confusionMatrix`.
 * @example
 * matthews([1, 0, 1, 1], [1, 0, 0, 1]); // 0.5773502691896258
 */
export function matthews(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  const matrix = confusionMatrix(predictions, labels);
  const samples = labels.length;
  let correct = 0;
  let products = 0;
  let predictedSquares = 0;
  let trueSquares = 0;
  for (let k = 0; k < matrix.length; k++) {
    const row = matrix[k] as number[];
    const support = row.reduce((sum, count) => sum + count, 0);
    const predicted = matrix.reduce((sum, other) => sum + (other[k] as number), 0);
    correct += row[k] as number;
    products += predicted * support;
    predictedSquares += predicted * predicted;
    trueSquares += support * support;
  }
  const variance = (samples * samples - predictedSquares) * (samples * samples - trueSquares);
  return variance === 0 ? 0 : (correct * samples - products) / Math.sqrt(variance);
}
