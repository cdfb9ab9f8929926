import type { AdamWConfig } from "./optimizer-config.ts";
import type { Slot } from "./slots.ts";

/** State of a parameter in files: running means of the gradient and of its square. */
export const ADAMW_STATE = ["exp_avg", "exp_avg_sq"] as const;

/**
 * One AdamW update of one tensor, or of some of its entries, in place, step t = 1, 2, ...
 *
 *   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
 *   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * Arithmetic is double, stored as float32: within float32 rounding of torch. Entries with `held` 1 stay as they are, their state
 * included. Allocates nothing.
 */
export function adamWStep(
  slot: Slot,
  gradient: Float32Array,
  t: number,
  learningRate: number,
  config: AdamWConfig,
  held?: Uint8Array,
  [start, end]: readonly [start: number, end: number] = [0, slot.values.length],
): void {
  const { values, weightDecay } = slot;
  const m = slot.state[0] as Float32Array;
  const v = slot.state[1] as Float32Array;
  const [beta1, beta2] = config.betas;
  const { eps } = config;
  const keep = 1 - learningRate * weightDecay;
  const stepSize = learningRate / (1 - beta1 ** t);
  const rootCorrection = 1 / Math.sqrt(1 - beta2 ** t);
  for (let i = start; i < end; i++) {
    if (held?.[i] === 1) continue;
    const g = gradient[i] as number;
    const mean = (m[i] as number) + (1 - beta1) * (g - (m[i] as number));
    const square = beta2 * (v[i] as number) + (1 - beta2) * g * g;
    m[i] = mean;
    v[i] = square;
    values[i] = (values[i] as number) * keep - (stepSize * mean) / (Math.sqrt(square) * rootCorrection + eps);
  }
}
