import { PeftError } from "../errors.ts";
import { type Matrix, matrix, multiply } from "./matrix.ts";

/** A core of a tensor ring: an R x R matrix for each of `size` indices, [size, R, R], row-major. */
export interface RingCore {
  readonly size: number;
  readonly rank: number;
  readonly data: Float64Array;
}

function checkCores(cores: readonly RingCore[]): number {
  const rank = cores[0]?.rank ?? 0;
  const fits = cores.every((core) => core.rank === rank && core.data.length === core.size * rank * rank);
  if (cores.length > 0 && fits && rank > 0) return rank;
  const shown = cores.map(({ size, rank: r, data }) => `${size} of rank ${r} with ${data.length} numbers`).join(", ");
  throw new PeftError("SHAPE_MISMATCH", `expected cores of one rank, received ${shown || "none"}.`);
}

/**
 * Products of the cores' matrices for every multi-index: [N, R, R] with N the product of sizes, entry k = A^1[k_1]·A^2[k_2]...,
 * k = k_1 + size_1 (k_2 + size_2 (k_3 + ...)): the first core runs fastest. N R³ multiplications for the last core.
 * @throws PeftError SHAPE_MISMATCH
 */
export function ringChain(cores: readonly RingCore[]): RingCore {
  const rank = checkCores(cores);
  const square = rank * rank;
  let size = 1;
  let data = new Float64Array(square);
  for (let r = 0; r < rank; r++) data[r * (rank + 1)] = 1;
  for (const core of cores) {
    const next = new Float64Array(size * core.size * square);
    for (let m = 0; m < core.size; m++) {
      for (let k = 0; k < size; k++) {
        const to = (k + size * m) * square;
        for (let a = 0; a < rank; a++) {
          for (let c = 0; c < rank; c++) {
            let sum = 0;
            for (let b = 0; b < rank; b++) {
              sum += (data[k * square + a * rank + b] as number) * (core.data[m * square + b * rank + c] as number);
            }
            next[to + a * rank + c] = sum;
          }
        }
      }
    }
    size *= core.size;
    data = next;
  }
  return { size, rank, data };
}

/**
 * The matrix of a tensor ring over rows and columns: D[o, j] = trace(B^1[o_1] B^2[o_2] ... C^1[j_1] C^2[j_2] ...), as one product
 * of [rows, R²] and [R², columns].
 * @throws PeftError SHAPE_MISMATCH
 */
export function ringMatrix(rows: readonly RingCore[], columns: readonly RingCore[]): Matrix {
  const rank = checkCores([...rows, ...columns]);
  const [left, right] = [ringChain(rows), ringChain(columns)];
  const square = rank * rank;
  const turned = matrix(right.size, square);
  for (let j = 0; j < right.size; j++) {
    for (let a = 0; a < rank; a++) {
      for (let b = 0; b < rank; b++)
        turned.data[j * square + a * rank + b] = right.data[j * square + b * rank + a] as number;
    }
  }
  return multiply(matrix(left.size, square, left.data), turned, { transB: true });
}

/** A core of a tensor-ring matrix: an R x R matrix for each pair of row and column, [rows, columns, R, R]. */
export interface RingMatrixCore {
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
  readonly data: Float64Array;
}

/**
 * The matrix of cores that hold rows and columns together: T[i, j] = trace(A^1[i_1, j_1] A^2[i_2, j_2] ...), the first factor of
 * i and of j running fastest. With rank 1 it is the Kronecker product A^D ⊗ ... ⊗ A^1.
 * @throws PeftError SHAPE_MISMATCH
 */
export function ringKronecker(cores: readonly RingMatrixCore[]): Matrix {
  const chain = ringChain(cores.map(({ rows, columns, rank, data }) => ({ size: rows * columns, rank, data })));
  const rows = cores.reduce((n, core) => n * core.rows, 1);
  const columns = cores.reduce((n, core) => n * core.columns, 1);
  const out = matrix(rows, columns);
  const square = chain.rank * chain.rank;
  for (let k = 0; k < chain.size; k++) {
    let trace = 0;
    for (let r = 0; r < chain.rank; r++) trace += chain.data[k * square + r * (chain.rank + 1)] as number;
    let [rest, i, j, rowStep, columnStep] = [k, 0, 0, 1, 1];
    for (const core of cores) {
      const pair = rest % (core.rows * core.columns);
      rest = (rest - pair) / (core.rows * core.columns);
      i += rowStep * Math.floor(pair / core.columns);
      j += columnStep * (pair % core.columns);
      rowStep *= core.rows;
      columnStep *= core.columns;
    }
    out.data[i * columns + j] = trace;
  }
  return out;
}
