import { PeftError } from "../errors.ts";

/** A dense matrix, row-major, in double precision. Functions of this folder never change their arguments. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

/** @throws PeftError SHAPE_MISMATCH when the number of values is not rows * columns */
export function matrix(
  rows: number,
  columns: number,
  values: ArrayLike<number> = new Float64Array(rows * columns),
): Matrix {
  if (values.length !== rows * columns) {
    throw new PeftError(
      "SHAPE_MISMATCH",
      `Expected ${rows * columns} values for [${rows}, ${columns}], received ${values.length}.`,
    );
  }
  return { rows, columns, data: values instanceof Float64Array ? values : Float64Array.from(values) };
}

/** A matrix whose entry (i, j) is `f(i, j)`. */
export function matrixFrom(rows: number, columns: number, f: (i: number, j: number) => number): Matrix {
  const result = matrix(rows, columns);
  for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < columns; j++) result.data[at++] = f(i, j);
  return result;
}

export function identity(size: number): Matrix {
  const result = matrix(size, size);
  for (let i = 0; i < size; i++) result.data[i * size + i] = 1;
  return result;
}

/** Diagonal matrix of some values. */
export function diagonal(values: ArrayLike<number>): Matrix {
  const result = matrix(values.length, values.length);
  for (let i = 0; i < values.length; i++) result.data[i * values.length + i] = values[i] as number;
  return result;
}

/** Aᵀ [columns, rows], in tiles that stay in the cache. */
export function transpose({ rows, columns, data }: Matrix): Matrix {
  const out = new Float64Array(rows * columns);
  const tile = 32;
  for (let top = 0; top < rows; top += tile) {
    const bottom = Math.min(rows, top + tile);
    for (let left = 0; left < columns; left += tile) {
      const right = Math.min(columns, left + tile);
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < right; j++) out[j * rows + i] = data[i * columns + j] as number;
      }
    }
  }
  return { rows: columns, columns: rows, data: out };
}

/** Rows and columns of B that are worked on at a time: 64 * 256 doubles are 128 kB, which stays in the second cache. */
const depth = 64;
const width = 256;

/**
 * C += A·B for one block of B. Four rows of A and four of B at a time: a row of C is read and written once for four
 * products.
 */
function multiplyBlock(a: Matrix, b: Matrix, c: Float64Array, k0: number, k1: number, j0: number, j1: number): void {
  const [n, m] = [a.columns, b.columns];
  const [x, y] = [a.data, b.data];
  for (let i = 0; i < a.rows; i++) {
    const row = i * m;
    let k = k0;
    for (; k + 3 < k1; k += 4) {
      const at = i * n + k;
      const [x0, x1, x2, x3] = [x[at] as number, x[at + 1] as number, x[at + 2] as number, x[at + 3] as number];
      const [b0, b1, b2, b3] = [k * m, (k + 1) * m, (k + 2) * m, (k + 3) * m];
      for (let j = j0; j < j1; j++) {
        c[row + j] =
          (c[row + j] as number) +
          x0 * (y[b0 + j] as number) +
          x1 * (y[b1 + j] as number) +
          x2 * (y[b2 + j] as number) +
          x3 * (y[b3 + j] as number);
      }
    }
    for (; k < k1; k++) {
      const x0 = x[i * n + k] as number;
      for (let j = j0; j < j1; j++) c[row + j] = (c[row + j] as number) + x0 * (y[k * m + j] as number);
    }
  }
}

/**
 * A·B in double precision, with either factor transposed on request. A [m, k], B [k, n], result [m, n]; 2 m k n operations.
 * @throws PeftError SHAPE_MISMATCH
 * @example
 * multiply(matrix(1, 2, [1, 2]), matrix(2, 1, [3, 4])).data[0]; // 11
 */
export function multiply(
  left: Matrix,
  right: Matrix,
  options: { readonly transA?: boolean; readonly transB?: boolean } = {},
): Matrix {
  const a = options.transA ? transpose(left) : left;
  const b = options.transB ? transpose(right) : right;
  if (a.columns !== b.rows) {
    throw new PeftError(
      "SHAPE_MISMATCH",
      `expected inner sizes to agree, received [${a.rows}, ${a.columns}] times [${b.rows}, ${b.columns}].`,
    );
  }
  const c = matrix(a.rows, b.columns);
  for (let j = 0; j < b.columns; j += width) {
    const j1 = Math.min(b.columns, j + width);
    for (let k = 0; k < b.rows; k += depth) multiplyBlock(a, b, c.data, k, Math.min(b.rows, k + depth), j, j1);
  }
  return c;
}

/** Entry by entry. @throws PeftError SHAPE_MISMATCH */
export function combine(a: Matrix, b: Matrix, f: (x: number, y: number) => number): Matrix {
  if (a.rows !== b.rows || a.columns !== b.columns) {
    throw new PeftError("SHAPE_MISMATCH", `Shapes [${a.rows}, ${a.columns}] and [${b.rows}, ${b.columns}] differ.`);
  }
  return matrix(
    a.rows,
    a.columns,
    a.data.map((x, i) => f(x, b.data[i] as number)),
  );
}

export const add = (a: Matrix, b: Matrix): Matrix => combine(a, b, (x, y) => x + y);
export const subtract = (a: Matrix, b: Matrix): Matrix => combine(a, b, (x, y) => x - y);
/** a ∘ b */
export const hadamardProduct = (a: Matrix, b: Matrix): Matrix => combine(a, b, (x, y) => x * y);
export const scale = (a: Matrix, factor: number): Matrix =>
  matrix(
    a.rows,
    a.columns,
    a.data.map((x) => x * factor),
  );

/** Rows of `a` multiplied by one factor each. */
export const scaleRows = (a: Matrix, factors: ArrayLike<number>): Matrix =>
  matrix(
    a.rows,
    a.columns,
    a.data.map((x, i) => x * (factors[Math.floor(i / a.columns)] as number)),
  );

/** Columns of `a` multiplied by one factor each. */
export const scaleColumns = (a: Matrix, factors: ArrayLike<number>): Matrix =>
  matrix(
    a.rows,
    a.columns,
    a.data.map((x, i) => x * (factors[i % a.columns] as number)),
  );

/**
 * Kronecker product A ⊗ B of A [a1, a2] and B [b1, b2]: [a1 b1, a2 b2] with entry (i b1 + k, j b2 + l) = A[i, j] B[k, l].
 * @example
 * kron(matrix(1, 2, [1, 2]), matrix(1, 2, [3, 4])).data; // Float64Array [3, 4, 6, 8]
 */
export function kron(a: Matrix, b: Matrix): Matrix {
  const out = matrix(a.rows * b.rows, a.columns * b.columns);
  for (let i = 0; i < a.rows; i++) {
    for (let k = 0; k < b.rows; k++) {
      let at = (i * b.rows + k) * out.columns;
      for (let j = 0; j < a.columns; j++) {
        const x = a.data[i * a.columns + j] as number;
        for (let l = 0; l < b.columns; l++) out.data[at++] = x * (b.data[k * b.columns + l] as number);
      }
    }
  }
  return out;
}

/** Rows from..to (exclusive) as a copy. */
export const rowRange = (a: Matrix, from: number, to: number): Matrix =>
  matrix(to - from, a.columns, a.data.slice(from * a.columns, to * a.columns));

/** Columns from..to (exclusive) as a copy. */
export const columnRange = (a: Matrix, from: number, to: number): Matrix => transpose(rowRange(transpose(a), from, to));

/** Square matrices along the diagonal of a larger one. */
export function blockDiagonal(blocks: readonly Matrix[]): Matrix {
  const size = blocks.reduce((sum, b) => sum + b.rows, 0);
  const result = matrix(size, size);
  let start = 0;
  for (const { rows, columns, data } of blocks) {
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) result.data[(start + i) * size + start + j] = data[i * columns + j] as number;
    start += rows;
  }
  return result;
}

/** Euclidean norm of each row. */
export const rowNorms = (a: Matrix): Float64Array =>
  Float64Array.from({ length: a.rows }, (_, i) =>
    Math.sqrt(a.data.subarray(i * a.columns, (i + 1) * a.columns).reduce((sum, x) => sum + x * x, 0)),
  );

/** Euclidean norm of each column. */
export const columnNorms = (a: Matrix): Float64Array => rowNorms(transpose(a));
