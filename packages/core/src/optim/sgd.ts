import type { SgdConfig } from "./optimizer-config.ts";
import type { Slot } from "./slots.ts";

/** State of a parameter in files; none without momentum. */
export const SGD_STATE = ["momentum_buffer"] as const;

/**
 * One SGD update of one tensor, or of some of its entries, in place, step t = 1, 2, ...
 *
 *   g <- g + wd p;  b <- g at t = 1, else momentum b + (1 - dampening) g
 *   p <- p - lr (g + momentum b if nesterov, else b);  without momentum p <- p - lr g
 *
 * Entries with `held` 1 stay as they are, their state included. Allocates nothing.
 */
export function sgdStep(
  slot: Slot,
  gradient: Float32Array,
  t: number,
  learningRate: number,
  config: SgdConfig,
  held?: Uint8Array,
  [start, end]: readonly [start: number, end: number] = [0, slot.values.length],
): void {
  const { values, weightDecay } = slot;
  const { momentum, nesterov } = config;
  if (momentum === 0) {
    for (let i = start; i < end; i++) {
      if (held?.[i] === 1) continue;
      const p = values[i] as number;
      values[i] = p - learningRate * ((gradient[i] as number) + weightDecay * p);
    }
    return;
  }
  const buffer = slot.state[0] as Float32Array;
  // The first gradient enters undamped, as in torch.
  const keep = t === 1 ? 0 : momentum;
  const take = t === 1 ? 1 : 1 - config.dampening;
  for (let i = start; i < end; i++) {
    if (held?.[i] === 1) continue;
    const p = values[i] as number;
    const g = (gradient[i] as number) + weightDecay * p;
    const b = keep * (buffer[i] as number) + take * g;
    buffer[i] = b;
    values[i] = p - learningRate * (nesterov ? g + momentum * b : b);
  }
}
