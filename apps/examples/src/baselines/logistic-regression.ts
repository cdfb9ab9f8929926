import { minimize } from "./lbfgs.ts";
import type { SparseRows } from "./tf-idf.ts";

export interface LogisticRegressionOptions {
  /** Inverse strength of the L2 penalty, as in scikit-learn: larger fits closer. */
  c: number;
  /** Default 1e-4 of the mean loss, scikit-learn's. */
  tolerance?: number;
  /** Default 1,000. */
  maxIterations?: number;
  /** Weights to begin with: those found for another c save most of the iterations. Default zeros. */
  start?: Float64Array;
}

export interface LogisticRegression {
  /** [features, classes], then one bias per class. */
  readonly weights: Float64Array;
  readonly iterations: number;
  readonly converged: boolean;
  /** The class with the highest logit for every row. */
  predict(rows: SparseRows): Int32Array;
}

/** logits = bias + x·W for one row; W [features, classes] so that the inner loop runs over neighbours. */
function rowLogits(logits: Float64Array, data: SparseRows, row: number, weights: Float64Array): void {
  const classes = logits.length;
  const bias = data.columns * classes;
  for (let k = 0; k < classes; k++) logits[k] = weights[bias + k] as number;
  for (let i = data.rowStarts[row] as number; i < (data.rowStarts[row + 1] as number); i++) {
    const value = data.values[i] as number;
    const base = (data.columnIds[i] as number) * classes;
    for (let k = 0; k < classes; k++) logits[k] = (logits[k] as number) + value * (weights[base + k] as number);
  }
}

/** Turns logits into probabilities in place; returns -ln p(label). */
function softmaxLoss(logits: Float64Array, label: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let k = 0; k < logits.length; k++) max = Math.max(max, logits[k] as number);
  const labelLogit = logits[label] as number;
  let sum = 0;
  for (let k = 0; k < logits.length; k++) {
    const e = Math.exp((logits[k] as number) - max);
    logits[k] = e;
    sum += e;
  }
  for (let k = 0; k < logits.length; k++) logits[k] = (logits[k] as number) / sum;
  return max + Math.log(sum) - labelLogit;
}

/**
 * Multinomial logistic regression on sparse rows: minimises mean cross-entropy + |W|² / (2·c·rows), the bias free, as
 * scikit-learn's `LogisticRegression(C=c)` does.
 *
 * @param labels class ids 0 .. classes-1, one per row.
 */
export function fitLogisticRegression(
  data: SparseRows,
  labels: Int32Array,
  classes: number,
  { c, tolerance = 1e-4, maxIterations = 1000, start }: LogisticRegressionOptions,
): LogisticRegression {
  const weightCount = data.columns * classes;
  const bias = weightCount;
  const logits = new Float64Array(classes);
  const decay = 1 / (c * data.rows);

  const objective = (x: Float64Array, gradient: Float64Array): number => {
    let squares = 0;
    for (let i = 0; i < weightCount; i++) {
      const w = x[i] as number;
      squares += w * w;
      gradient[i] = decay * w;
    }
    gradient.fill(0, bias);
    let loss = 0;
    for (let row = 0; row < data.rows; row++) {
      const label = labels[row] as number;
      rowLogits(logits, data, row, x);
      loss += softmaxLoss(logits, label);
      logits[label] = (logits[label] as number) - 1; // d loss / d logits = p - onehot
      for (let k = 0; k < classes; k++)
        gradient[bias + k] = (gradient[bias + k] as number) + (logits[k] as number) / data.rows;
      for (let i = data.rowStarts[row] as number; i < (data.rowStarts[row + 1] as number); i++) {
        const value = (data.values[i] as number) / data.rows;
        const base = (data.columnIds[i] as number) * classes;
        for (let k = 0; k < classes; k++)
          gradient[base + k] = (gradient[base + k] as number) + value * (logits[k] as number);
      }
    }
    return loss / data.rows + (decay / 2) * squares;
  };

  const { x, iterations, converged } = minimize(objective, start?.slice() ?? new Float64Array(weightCount + classes), {
    tolerance,
    maxIterations,
  });
  const predict = (rows: SparseRows): Int32Array =>
    Int32Array.from({ length: rows.rows }, (_, row) => {
      rowLogits(logits, rows, row, x);
      return logits.indexOf(Math.max(...logits));
    });
  return { weights: x, iterations, converged, predict };
}
