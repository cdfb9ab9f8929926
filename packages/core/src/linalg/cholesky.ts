import { PeftError } from "../errors.ts";
import { plainKernels } from "./kernels.ts";
import { type Matrix, matrix } from "./matrix.ts";
import { checkFinite, checkSquare } from "./measure.ts";

/**
 * Cholesky factor L of a symmetric positive definite matrix: A = L·Lᵀ, L lower triangular with a positive diagonal. Only the
 * lower triangle of A is read. Some n³ / 3 operations.
 * @throws PeftError MATRIX_NOT_POSITIVE_DEFINITE, SHAPE_MISMATCH, MATRIX_NOT_FINITE
 * @example
 * cholesky(matrix(2, 2, [4, 2, 2, 5])).data; // Float64Array [2, 0, 1, 2]
 */
export function cholesky(a: Matrix): Matrix {
  checkSquare(a, "cholesky");
  checkFinite(a, "cholesky");
  const n = a.rows;
  const { data: l } = matrix(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = (a.data[i * n + j] as number) - plainKernels.dot(l, i * n, l, j * n, j);
      if (j < i) l[i * n + j] = rest / (l[j * n + j] as number);
      else if (rest > 0) l[i * n + i] = Math.sqrt(rest);
      else {
        throw new PeftError(
          "MATRIX_NOT_POSITIVE_DEFINITE",
          `expected a positive definite matrix, pivot ${i} of ${n} is ${rest}.`,
          { hint: "Add a small multiple of the identity." },
        );
      }
    }
  }
  return { rows: n, columns: n, data: l };
}
