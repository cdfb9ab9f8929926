import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import type { GraphCore } from "./core.ts";
import type { elementwiseOps } from "./ops-elementwise.ts";
import type { shapeOps } from "./ops-shape.ts";

/** Names of the inputs that feed dropout. */
export const DROPOUT_OFFSETS = "dropout.offsets";
export const dropoutPoolName = (probability: number): string => `dropout.pool.${probability}`;

/** What a graph with dropout expects to be fed. Sites are numbered in the order they were added. */
export interface DropoutPlan {
  readonly sites: { readonly probability: number; readonly value: Value }[];
}

/**
 * Dropout with masks from outside. A pool per probability p holds the values 0 (share p) and 1/(1-p), drawn anew for
 * every optimiser step; each site multiplies by a contiguous run of the pool at an offset of its own. So masks are a
 * function of (seed, step, micro-batch, site) and resume exactly, and a mask costs one copy instead of a random
 * number per activation.
 */
export function dropoutOps(core: GraphCore, ops: ReturnType<typeof elementwiseOps> & ReturnType<typeof shapeOps>) {
  const plan: DropoutPlan = { sites: [] };
  let training = false;
  return {
    dropoutPlan: plan,
    /** Off by default: dropout(x) is x. On: every following call adds a site. */
    setTraining(on: boolean): void {
      training = on;
    },
    /**
     * x with a share `probability` of its values set to 0 and the others divided by 1 - probability; same shape.
     * @throws PeftError DROPOUT_PROBABILITY outside [0, 1).
     */
    dropout(x: Value, probability: number): Value {
      if (!(probability >= 0 && probability < 1)) {
        throw new PeftError(
          "DROPOUT_PROBABILITY",
          `expected a probability of at least 0 and below 1, received ${probability} for dropout of "${x.name}".`,
        );
      }
      if (!training || probability === 0) return x;
      const offsets = core.has(DROPOUT_OFFSETS)
        ? core.value(DROPOUT_OFFSETS)
        : core.input(DROPOUT_OFFSETS, "int64", ["dropout.sites"]);
      const poolName = dropoutPoolName(probability);
      const pool = core.has(poolName) ? core.value(poolName) : core.input(poolName, "float32", [`${poolName}.size`]);
      const site = plan.sites.push({ probability, value: x }) - 1;
      const start = ops.gather(offsets, ops.ints([site]));
      const size = core.op("Reshape", [core.op("Size", [x])[0] as Value, ops.ints([1])])[0] as Value;
      const run = core.op("Slice", [pool, start, ops.add(start, size), ops.ints([0])])[0] as Value;
      return ops.mul(x, ops.cast(ops.reshapeLike(run, x), x.type));
    },
  };
}
