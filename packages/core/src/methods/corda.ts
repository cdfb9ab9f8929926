import { z } from "zod";
import { PeftError } from "../errors.ts";
import { cholesky } from "../linalg/cholesky.ts";
import { solve } from "../linalg/lu.ts";
import {
  columnRange,
  type Matrix,
  matrix,
  multiply,
  rowRange,
  scaleColumns,
  scaleRows,
  transpose,
} from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";

/** Options of the start "corda", as in peft's CordaConfig. */
export const cordaConfig = z.strictObject({
  /** "ipm" trains the directions that matter most to the data (of the task), "kpm" those that matter least (to data of what is to be kept). */
  cordaMethod: z.enum(["ipm", "kpm"]).default("ipm"),
});
export type CordaConfig = z.output<typeof cordaConfig>;

/** C + d mean(diag C) I with d = 0.01, doubled while the result has no Cholesky factor. */
function damped(covariance: Matrix): Matrix {
  const n = covariance.rows;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += (covariance.data[i * (n + 1)] as number) / n;
  if (!(mean > 0)) {
    throw new PeftError(
      "CALIBRATION_DATA",
      `expected inputs that are not all zero, received a covariance of trace ${mean * n}.`,
    );
  }
  for (let share = 0.01; ; share *= 2) {
    const result = matrix(n, n, covariance.data.slice());
    for (let i = 0; i < n; i++) result.data[i * (n + 1)] = (result.data[i * (n + 1)] as number) + share * mean;
    try {
      cholesky(result);
      return result;
    } catch (error) {
      const isSingular = PeftError.isInstance(error) && error.code === "MATRIX_NOT_POSITIVE_DEFINITE";
      if (!isSingular || share > 1) throw error;
    }
  }
}

/**
 * A [r, in] and B [out, r] of CorDA (Yang et al. 2024, arXiv 2406.05223): with C the covariance of the module's input and U·S·Vᵀ = W·C, the weight is
 * U·S·(Vᵀ·C⁻¹); B = U·sqrt(S / s), A = sqrt(S / s)·Vᵀ·C⁻¹ of the first r triplets (ipm) or the last r (kpm). Their product is subtracted from the frozen
 * weight. As in peft, which adds more to the diagonal where float32 inverts C badly; here that is done in double precision.
 * Costs an SVD of [out, in] and an LU decomposition of [in, in].
 * @param scaling s = alpha / r
 */
export function cordaStart(
  weight: Matrix,
  covariance: Matrix,
  { cordaMethod }: CordaConfig,
  { r, scaling }: { readonly r: number; readonly scaling: number },
): { readonly A: Matrix; readonly B: Matrix } {
  const c = damped(covariance);
  const { u, s, vt } = svd(multiply(weight, c));
  const from = cordaMethod === "ipm" ? 0 : s.length - r;
  const roots = s.slice(from, from + r).map((value) => Math.sqrt(value / scaling));
  // C is symmetric: rows·C⁻¹ = (C⁻¹·rowsᵀ)ᵀ.
  const directions = transpose(solve(c, transpose(rowRange(vt, from, from + r))));
  return { A: scaleRows(directions, roots), B: scaleColumns(columnRange(u, from, from + r), roots) };
}
