import { z } from "zod";

const warmup = {
  /** Steps over which the factor rises linearly from 0 to 1. */
  warmupSteps: z.int().min(0).optional(),
  /** The same as a share of all steps, rounded up; give one of the two. */
  warmupRatio: z.number().min(0).max(1).optional(),
};

/** Learning-rate schedules; names and numbers of transformers' `get_scheduler`, in camelCase and kebab-case. */
export const scheduleConfig = z
  .discriminatedUnion("type", [
    z.strictObject({ type: z.literal("constant"), ...warmup }),
    z.strictObject({ type: z.literal("linear"), ...warmup }),
    z.strictObject({
      type: z.literal("cosine"),
      ...warmup,
      /** Full waves until the end; 0.5 goes down once. */
      cycles: z.number().positive().default(0.5),
      /** Lowest factor. */
      minFactor: z.number().min(0).max(1).default(0),
    }),
    z.strictObject({
      type: z.literal("cosine-with-restarts"),
      ...warmup,
      /** Half waves, each starting again at 1. */
      cycles: z.number().positive().default(1),
    }),
    z.strictObject({
      type: z.literal("polynomial"),
      ...warmup,
      power: z.number().positive().default(1),
      /** Factor at the end (transformers' `lr_end` divided by the learning rate). */
      endFactor: z.number().min(0).max(1).default(0),
    }),
    z.strictObject({
      type: z.literal("inverse-sqrt"),
      ...warmup,
      /** Steps after which the factor has fallen to about 0.7; default: the warm-up, or 10,000 without one. */
      timescale: z.number().positive().optional(),
    }),
  ])
  .refine(({ warmupSteps, warmupRatio }) => warmupSteps === undefined || warmupRatio === undefined, {
    path: ["warmupRatio"],
    message: "give warmupSteps or warmupRatio, not both",
  });
export type ScheduleConfig = z.output<typeof scheduleConfig>;

/** Warm-up steps of a schedule over `total` steps. */
export function warmupStepsOf({ warmupSteps, warmupRatio }: ScheduleConfig, total: number): number {
  return warmupSteps ?? Math.ceil(total * (warmupRatio ?? 0));
}

/** 1 at progress 0, falling and rising with `waves` full cosine waves per unit of progress. */
const cosineFactor = (progress: number, waves: number): number => 0.5 * (1 + Math.cos(2 * Math.PI * waves * progress));

/** The factor after warm-up. */
function decayFactor(step: number, total: number, warmupSteps: number, config: ScheduleConfig): number {
  const progress = (step - warmupSteps) / Math.max(1, total - warmupSteps);
  switch (config.type) {
    case "constant":
      return 1;
    case "linear":
      return Math.max(0, 1 - progress);
    case "cosine":
      return Math.max(0, cosineFactor(progress, config.cycles) * (1 - config.minFactor) + config.minFactor);
    case "cosine-with-restarts":
      return progress >= 1 ? 0 : cosineFactor((config.cycles * progress) % 1, 0.5);
    case "polynomial":
      return (1 - config.endFactor) * Math.max(0, 1 - progress) ** config.power + config.endFactor;
    case "inverse-sqrt": {
      const timescale = config.timescale ?? (warmupSteps || 10_000);
      return Math.sqrt(timescale / (step - warmupSteps + timescale));
    }
  }
}

/**
 * The learning rate of a step: a pure function, so that a resumed run needs no state of the schedule. The same numbers as
 * transformers' schedulers under torch's LambdaLR: steps count from 0, and with a warm-up step 0 has learning rate 0.
 *
 * @param step index of the optimiser step, from 0.
 * @param total optimiser steps of the whole run.
 * @param learningRate peak value; with the default 1 the result is the factor `Optimizer.step` takes.
 * @example
 * learningRateAt(3, 10, { type: "linear", warmupSteps: 2 }, 1e-3); // 0.000875
 */
export function learningRateAt(step: number, total: number, config: ScheduleConfig, learningRate = 1): number {
  const warmupSteps = warmupStepsOf(config, total);
  const factor = step < warmupSteps ? step / warmupSteps : decayFactor(step, total, warmupSteps, config);
  return learningRate * factor;
}
