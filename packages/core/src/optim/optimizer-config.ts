import { z } from "zod";

const common = {
  /** Learning rate of every parameter that no group names, before the schedule. 1e-4 to 4e-4 suits LoRA with AdamW. */
  learningRate: z.number().positive(),
  /** Weight decay of every parameter that no group names. 0, as in transformers' trainer (torch's AdamW has 0.01). */
  weightDecay: z.number().min(0).default(0),
};

/** AdamW, defaults as in torch apart from `weightDecay`. Loshchilov and Hutter, arXiv 1711.05101. */
export const adamWConfig = z.strictObject({
  type: z.literal("adamw"),
  ...common,
  /** Decay of the running mean of gradients and of their squares. */
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
  /** Added outside the square root. */
  eps: z.number().positive().default(1e-8),
});
export type AdamWConfig = z.output<typeof adamWConfig>;

/** Stochastic gradient descent with momentum, as in torch: weight decay is added to the gradient (L2). */
export const sgdConfig = z
  .strictObject({
    type: z.literal("sgd"),
    ...common,
    momentum: z.number().min(0).lt(1).default(0),
    /** Share of the gradient kept out of the momentum buffer. */
    dampening: z.number().min(0).max(1).default(0),
    nesterov: z.boolean().default(false),
  })
  .refine(({ nesterov, momentum, dampening }) => !nesterov || (momentum > 0 && dampening === 0), {
    path: ["nesterov"],
    message: "nesterov needs momentum > 0 and dampening = 0",
  });
export type SgdConfig = z.output<typeof sgdConfig>;

/** Configuration of an optimiser, told apart by `type`. */
export const optimizerConfig = z.discriminatedUnion("type", [adamWConfig, sgdConfig]);
export type OptimizerConfig = z.output<typeof optimizerConfig>;
/** What a caller writes: options with a default may be left out. */
export type OptimizerInput = z.input<typeof optimizerConfig>;

/** Parameters that share a learning rate and weight decay of their own. */
export const parameterGroup = z.strictObject({
  names: z.array(z.string()).min(1),
  /** Absolute, before the schedule. */
  learningRate: z.number().min(0),
  weightDecay: z.number().min(0),
});
export type ParameterGroup = z.output<typeof parameterGroup>;
