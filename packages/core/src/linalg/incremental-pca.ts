import { type Matrix, matrix, rowRange } from "./matrix.ts";
import { randomizedSvd } from "./randomized-svd.ts";

/** What is known of the principal components of rows that come in batches. */
export interface IncrementalPca {
  /** Rows seen. */
  readonly count: number;
  readonly mean: Float64Array;
  /** Sum of the squared distances of all rows from their mean. */
  readonly scatter: number;
  /** Orthonormal rows [components, columns], largest variance first, the largest entry of each positive. */
  readonly components: Matrix;
  readonly singularValues: Float64Array;
  /** Share of the variance that each component explains. */
  readonly explained: Float64Array;
}

/**
 * Adds a batch of rows to an incremental principal component analysis: the SVD of [S·V; X - mean(X); c (mean_old - mean(X))], c² =
 * n_old n_new / (n_old + n_new), takes the place of all earlier rows by their leading components. Ross et al. 2008, as scikit-learn and peft compute it.
 * Memory is that of one batch. Costs a randomised SVD of [components + rows + 1, columns].
 * @param components at most rows.rows and rows.columns of the first batch.
 */
export async function extendPca(
  before: IncrementalPca | null,
  rows: Matrix,
  components: number,
): Promise<IncrementalPca> {
  const { rows: n, columns, data } = rows;
  const own = new Float64Array(columns);
  for (let i = 0, at = 0; i < n; i++)
    for (let j = 0; j < columns; j++) own[j] = (own[j] as number) + (data[at++] as number);
  for (let j = 0; j < columns; j++) own[j] = (own[j] as number) / n;

  const kept = before?.components.rows ?? 0;
  const stacked = matrix(kept + n + (before ? 1 : 0), columns);
  let scatter = before?.scatter ?? 0;
  for (let i = 0, at = 0; i < n; i++) {
    for (let j = 0; j < columns; j++) {
      const centred = (data[at++] as number) - (own[j] as number);
      scatter += centred * centred;
      stacked.data[(kept + i) * columns + j] = centred;
    }
  }
  const count = (before?.count ?? 0) + n;
  const mean = own.slice();
  if (before) {
    const weight = (before.count * n) / count;
    for (let j = 0; j < columns; j++) {
      const shift = (before.mean[j] as number) - (own[j] as number);
      scatter += weight * shift * shift;
      stacked.data[(kept + n) * columns + j] = Math.sqrt(weight) * shift;
      mean[j] = ((before.mean[j] as number) * before.count + (own[j] as number) * n) / count;
    }
    for (let k = 0; k < kept; k++) {
      const s = before.singularValues[k] as number;
      for (let j = 0; j < columns; j++)
        stacked.data[k * columns + j] = s * (before.components.data[k * columns + j] as number);
    }
  }
  const { s, vt } = await randomizedSvd(stacked, components, { oversampling: Math.max(16, components) });
  return {
    count,
    mean,
    scatter,
    components: upright(rowRange(vt, 0, components)),
    singularValues: s,
    explained: s.map((v) => (scatter === 0 ? 0 : (v * v) / scatter)),
  };
}

/** Rows with the sign that makes their largest entry positive: components of two batches can be compared. */
function upright(rows: Matrix): Matrix {
  const { columns } = rows;
  for (let k = 0; k < rows.rows; k++) {
    const row = rows.data.subarray(k * columns, (k + 1) * columns);
    let largest = 0;
    for (const v of row) if (Math.abs(v) > Math.abs(largest)) largest = v;
    if (largest < 0) for (let j = 0; j < columns; j++) row[j] = -(row[j] as number);
  }
  return rows;
}

/** Cosine of every row with the row of the same number; rows are of length 1. */
export const rowCosines = (a: Matrix, b: Matrix): Float64Array =>
  Float64Array.from({ length: a.rows }, (_, k) => {
    let sum = 0;
    for (let at = k * a.columns; at < (k + 1) * a.columns; at++) sum += (a.data[at] as number) * (b.data[at] as number);
    return sum;
  });
