import { PeftError } from "../errors.ts";

type Gradients = ReadonlyMap<string, Float32Array>;

function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    sum += value * value;
  }
  return sum;
}

/**
 * L2 norm of all gradients together, accumulated in double precision. NaN or infinity anywhere makes it NaN or infinite, so
 * `Number.isFinite` of the result is a cheap check of every value.
 */
export function globalNorm(gradients: Gradients): number {
  let sum = 0;
  for (const values of gradients.values()) sum += sumOfSquares(values);
  return Math.sqrt(sum);
}

/**
 * Scales all gradients in place so that their common norm is at most `maxNorm` (torch's `clip_grad_norm_`, the 1e-6 in its
 * divisor included). One pass to measure, a second only where it clips.
 *
 * @returns the norm before clipping.
 * @throws PeftError GRADIENT_NOT_FINITE naming the first parameter with NaN or infinity; nothing is scaled then.
 * @example
 * const norm = clipGlobalNorm(gradients, 1);
 */
export function clipGlobalNorm(gradients: Gradients, maxNorm: number): number {
  const norm = globalNorm(gradients);
  if (!Number.isFinite(norm)) throw notFiniteError(gradients);
  const factor = maxNorm / (norm + 1e-6);
  if (factor < 1) {
    for (const values of gradients.values()) {
      for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * factor;
    }
  }
  return norm;
}

/**
 * Norm of each module's gradients, for logs: parameters are grouped by `moduleOf`, by default the name without its last two
 * parts (`encoder.layer.0.attention.self.query.lora_A.weight` counts for `encoder.layer.0.attention.self.query`).
 */
export function normsByModule(gradients: Gradients, moduleOf: (name: string) => string = siteOf): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [name, values] of gradients) {
    const module = moduleOf(name);
    sums.set(module, (sums.get(module) ?? 0) + sumOfSquares(values));
  }
  return new Map(Array.from(sums, ([module, sum]) => [module, Math.sqrt(sum)]));
}

const siteOf = (name: string): string => {
  const parts = name.split(".");
  return parts.length > 2 ? parts.slice(0, -2).join(".") : (parts[0] ?? name);
};

/** Where a tensor first stops being finite. */
export interface NotFinite {
  name: string;
  /** Flat index of the first such value. */
  index: number;
  value: number;
  /** How many of the tensor's values are NaN or infinite. */
  count: number;
}

/** Every tensor that holds NaN or infinity, in map order; empty when all is well. */
export function findNotFinite(tensors: ReadonlyMap<string, Float32Array>): NotFinite[] {
  const found: NotFinite[] = [];
  for (const [name, values] of tensors) {
    let index = -1;
    let count = 0;
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i])) continue;
      if (count === 0) index = i;
      count++;
    }
    if (count > 0) found.push({ name, index, value: values[index] as number, count });
  }
  return found;
}

function notFiniteError(gradients: Gradients): PeftError {
  const tensors = findNotFinite(gradients);
  const [first] = tensors;
  // Every value may be finite and the sum of squares still overflow: that needs values near 1e154, impossible in float32.
  const where = first ? `${first.value} at "${first.name}"[${first.index}]` : "an infinite norm";
  const others = tensors.length > 1 ? ` and ${tensors.length - 1} more parameters` : "";
  return new PeftError("GRADIENT_NOT_FINITE", `expected finite gradients, received ${where}${others}.`, {
    hint: "Lower the learning rate, clip gradients, or look for NaN in the data.",
    details: { tensors },
  });
}

/**
 * Stops a run whose gradients went bad.
 * @throws PeftError GRADIENT_NOT_FINITE; `details.tensors` lists every {@link NotFinite}.
 */
export function checkGradientsFinite(gradients: Gradients): void {
  if (!Number.isFinite(globalNorm(gradients))) throw notFiniteError(gradients);
}
