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

export function transpose({ rows, columns, data }: Matrix): Matrix {
  const result = matrix(columns, rows);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[i * columns + j] as number;
  return result;
}

/** a·b in a.rows * a.columns * b.columns multiplications. @throws PeftError SHAPE_MISMATCH */
export function multiply(a: Matrix, b: Matrix): Matrix {
  if (a.columns !== b.rows) {
    throw new PeftError("SHAPE_MISMATCH", `Cannot multiply [${a.rows}, ${a.columns}] by [${b.rows}, ${b.columns}].`);
  }
  const result = matrix(a.rows, b.columns);
  for (let i = 0; i < a.rows; i++) {
    const row = result.data.subarray(i * b.columns, (i + 1) * b.columns);
    for (let k = 0; k < a.columns; k++) {
      const factor = a.data[i * a.columns + k] as number;
      if (factor === 0) continue;
      for (let j = 0, from = k * b.columns; j < b.columns; j++, from++) {
        row[j] = (row[j] as number) + factor * (b.data[from] as number);
      }
    }
  }
  return result;
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

/** Kronecker product: block (i, j) is a[i, j] * b. */
export function kron(a: Matrix, b: Matrix): Matrix {
  const [rows, columns] = [a.rows * b.rows, a.columns * b.columns];
  const result = matrix(rows, columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) {
      const x = a.data[Math.floor(i / b.rows) * a.columns + Math.floor(j / b.columns)] as number;
      result.data[i * columns + j] = x * (b.data[(i % b.rows) * b.columns + (j % b.columns)] as number);
    }
  return result;
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

/** x with a·x = b, by elimination with row exchanges. @throws PeftError SINGULAR_MATRIX, SHAPE_MISMATCH */
export function solve(a: Matrix, b: Matrix): Matrix {
  if (a.rows !== a.columns || a.rows !== b.rows) {
    throw new PeftError("SHAPE_MISMATCH", `Cannot solve with [${a.rows}, ${a.columns}] and [${b.rows}, ${b.columns}].`);
  }
  const [n, m] = [a.rows, b.columns];
  const [left, right] = [a.data.slice(), b.data.slice()];
  const swap = (data: Float64Array, width: number, i: number, j: number): void => {
    const row = data.slice(i * width, (i + 1) * width);
    data.copyWithin(i * width, j * width, (j + 1) * width);
    data.set(row, j * width);
  };
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++)
      if (Math.abs(left[i * n + k] as number) > Math.abs(left[pivot * n + k] as number)) pivot = i;
    const value = left[pivot * n + k] as number;
    if (value === 0) throw new PeftError("SINGULAR_MATRIX", `A [${n}, ${n}] matrix has no inverse.`);
    if (pivot !== k) {
      swap(left, n, pivot, k);
      swap(right, m, pivot, k);
    }
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = (left[i * n + k] as number) / value;
      if (factor === 0) continue;
      for (let j = k; j < n; j++) left[i * n + j] = (left[i * n + j] as number) - factor * (left[k * n + j] as number);
      for (let j = 0; j < m; j++)
        right[i * m + j] = (right[i * m + j] as number) - factor * (right[k * m + j] as number);
    }
  }
  return matrix(
    n,
    m,
    right.map((x, i) => x / (left[Math.floor(i / m) * n + Math.floor(i / m)] as number)),
  );
}
