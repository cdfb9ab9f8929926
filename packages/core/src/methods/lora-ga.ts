import { z } from "zod";
import { type Matrix, matrix, scaleColumns, scale as scaleMatrix } from "../linalg/matrix.ts";
import { type Svd, singularValues } from "../linalg/svd.ts";
import type { Random } from "../random/random.ts";

/** Options of the start "lora_ga"; names and defaults as in peft's LoraGAConfig. */
export const loraGaConfig = z.strictObject({
  /**
   * Which of the first 2r singular directions of the gradient go into A and B: the first r into A and the others into B, the other way round, A the
   * odd and B the even ones, or r drawn ones into both.
   */
  direction: z.enum(["ArB2r", "A2rBr", "ArBr", "random"]).default("ArB2r"),
  /**
   * B times out^(1/4) / sqrt(stableGamma); B with the weight's largest singular value in the place of its first one; both divided by
   * alpha / r; or as they are.
   */
  scale: z.enum(["stable", "weight_svd", "gd_scale", "unit"]).default("stable"),
  stableGamma: z.int().positive().default(16),
});
export type LoraGaConfig = z.output<typeof loraGaConfig>;

/** Numbers of the directions that go into A and into B. */
function choose(direction: LoraGaConfig["direction"], r: number, random: Random): [a: number[], b: number[]] {
  const some = (f: (k: number) => number): number[] => Array.from({ length: r }, (_, k) => f(k));
  const [first, second] = [some((k) => k), some((k) => r + k)];
  switch (direction) {
    case "ArB2r":
      return [first, second];
    case "A2rBr":
      return [second, first];
    case "ArBr":
      return [some((k) => 2 * k + 1), some((k) => 2 * k)];
    case "random": {
      const drawn = [...random.permutation(2 * r)].slice(0, r);
      return [drawn, drawn];
    }
  }
}

/**
 * A [r, in] and B [out, r] of LoRA-GA (Wang et al. 2024, arXiv 2407.05000) from the SVD of the weight's gradient: A are rows of Vᵀ, B columns of U·S
 * as in peft (the paper has B without S). Their product is subtracted from the frozen weight, so the model begins as it is.
 * @param gradient at least 2r singular values.
 * @param weight [out, in], read for the scale "weight_svd" only.
 * @param scaling alpha / r
 */
export function loraGaStart(
  { u, s, vt }: Svd,
  weight: () => Matrix,
  { direction, scale, stableGamma }: LoraGaConfig,
  { r, scaling, random }: { readonly r: number; readonly scaling: number; readonly random: Random },
): { readonly A: Matrix; readonly B: Matrix } {
  const [forA, forB] = choose(direction, r, random);
  const a = matrix(r, vt.columns);
  forA.forEach((from, k) => {
    a.data.set(vt.data.subarray(from * vt.columns, (from + 1) * vt.columns), k * vt.columns);
  });
  const columns = matrix(u.rows, r);
  for (let i = 0; i < u.rows; i++)
    for (let k = 0; k < r; k++) columns.data[i * r + k] = u.data[i * u.columns + (forB[k] as number)] as number;
  const b = scaleColumns(
    columns,
    forB.map((k) => s[k] as number),
  );
  switch (scale) {
    case "stable":
      return { A: a, B: scaleMatrix(b, u.rows ** 0.25 / Math.sqrt(stableGamma)) };
    case "weight_svd": {
      const leading = s[forB[0] as number] as number;
      return { A: a, B: leading > 0 ? scaleMatrix(b, (singularValues(weight())[0] as number) / leading) : b };
    }
    case "gd_scale":
      return { A: scaleMatrix(a, 1 / scaling), B: scaleMatrix(b, 1 / scaling) };
    case "unit":
      return { A: a, B: b };
  }
}
