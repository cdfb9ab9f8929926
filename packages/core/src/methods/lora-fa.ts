import { inverse } from "../linalg/lu.ts";
import { type Matrix, matrix, multiply, scale as scaleMatrix } from "../linalg/matrix.ts";
import type { HookSetup, StepHooks } from "./step-hooks.ts";

/** Added to the diagonal of A·Aᵀ, as in peft: A may have rows that depend on each other. */
const DAMPING = 1e-8;

/** (A·Aᵀ + 1e-8 I)⁻¹ / s² for A [r, in]. */
export function projection(a: Matrix, scale: number): Matrix {
  const gram = multiply(a, a, { transB: true });
  for (let i = 0; i < gram.rows; i++) {
    gram.data[i * (gram.rows + 1)] = (gram.data[i * (gram.rows + 1)] as number) + DAMPING;
  }
  return scaleMatrix(inverse(gram), 1 / scale ** 2);
}

interface Projected {
  /** Tensor names of A and B. */
  readonly a: string;
  readonly b: string;
  readonly r: number;
  readonly scale: number;
}

/**
 * LoRA-FA's gradient of B. Zhang et al. 2023, arXiv 2308.03303, as in `create_lorafa_optimizer` of peft: with A frozen the step of B whose change s·dB·A of
 * the weight is nearest to the full gradient is dB = g·(A·Aᵀ)⁻¹ / s², g the gradient of B. It takes the place of g before clipping and before
 * the optimiser (peft clips first). The optimiser's own form is AdamW's: peft's adds eps before it corrects the bias of the second moment, and
 * decays weights after the update, which is the same for eps and weight decay of 0. A is read once: r² in multiplications.
 */
export function projectGradients<C extends object>(
  { sites, values }: HookSetup<C>,
  scaleOf: (config: C) => number,
  rankOf: (config: C) => number,
): StepHooks {
  const projected = sites.flatMap(({ config, names }): Projected[] => {
    const { A: a, B: b } = names;
    return a && b ? [{ a, b, r: rankOf(config), scale: scaleOf(config) }] : [];
  });
  const known = new Map<string, Matrix>();
  const matrixOf = ({ a, r, scale }: Projected): Matrix => {
    const data = values.get(a) ?? new Float32Array();
    const found = known.get(a) ?? projection(matrix(r, data.length / r, data), scale);
    known.set(a, found);
    return found;
  };
  return {
    beforeUpdate(_, gradients) {
      for (const site of projected) {
        const gradient = gradients.get(site.b);
        if (gradient) {
          gradient.set(multiply(matrix(gradient.length / site.r, site.r, gradient), matrixOf(site)).data);
        }
      }
    },
    // A checkpoint brings its own A.
    restore: () => known.clear(),
  };
}
