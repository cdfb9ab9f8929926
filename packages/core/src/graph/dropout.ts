import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import type { GraphCore } from "./core.ts";
import type { elementwiseOps } from "./ops-elementwise.ts";
import type { shapeOps } from "./ops-shape.ts";

const PREFIX = "dropout.mask.";

/** Name of the input that feeds the mask of a site. */
export const dropoutMaskName = (site: number): string => `${PREFIX}${site}`;

/** Names of the inputs that say where a site's mask begins and ends in a pool that is fed in its place. */
export const maskRangeNames = (mask: string): readonly [string, string] => [`${mask}.start`, `${mask}.end`];

/** Name of the input that feeds the pool that masks are cut from. */
export const poolName = (draw: Draw): string => `dropout.pool.${draw}`;

/** Name of the input that feeds a pool in its place that says of each value whether it is kept, in a byte. */
export const keptPoolName = (draw: Draw): string => `dropout.kept.${draw}`;

/** The input feeds a mask of dropout. */
export const isDropoutMask = (input: string): boolean => input.startsWith(PREFIX);

/** What a random input of a training graph is drawn from: a mask of dropout with that probability, or a distribution. */
export type Draw = number | "logistic" | "normal";

/** What a graph with dropout expects to be fed. Sites are numbered in the order they were added. */
export interface DropoutPlan {
  readonly sites: { readonly draw: Draw; readonly value: Value }[];
}

/**
 * Dropout with masks from outside: every site multiplies by an input of its own, which holds 0 (share p) and 1/(1-p). The
 * feeds of all sites are views into one pool of random values (`createDropoutFeeds`), so masks are a function of
 * (seed, step, micro-batch, site), resume exactly, and cost neither a random number per activation nor a copy.
 */
export function dropoutOps(core: GraphCore, ops: ReturnType<typeof elementwiseOps> & ReturnType<typeof shapeOps>) {
  const plan: DropoutPlan = { sites: [] };
  let training = false;
  /** Random values from outside, as many as `like` has. */
  const random = (like: Value, draw: Draw): Value => {
    const name = dropoutMaskName(plan.sites.push({ draw, value: like }) - 1);
    const fed = core.has(name) ? core.value(name) : core.input(name, "float32", [`${name}.size`]);
    return ops.cast(ops.reshapeLike(fed, like), like.type);
  };
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
      return ops.mul(x, random(x, probability));
    },
    /**
     * x + log(u / (1 - u)) with u uniform in (0, 1), in training; x otherwise. The sigmoid of it is a relaxed Bernoulli variable of
     * temperature 1 with logits x (Maddison et al. 2017, arXiv 1611.00712).
     */
    logisticNoise(x: Value): Value {
      return training ? ops.add(x, random(x, "logistic")) : x;
    },
    /** x + e * deviation() with e standard normal, in training; x otherwise, and then the deviation is not computed. Same shapes. */
    normalNoise(x: Value, deviation: () => Value): Value {
      return training ? ops.add(x, ops.mul(random(x, "normal"), deviation())) : x;
    },
  };
}
