import { z } from "zod";
import { optimizerConfig } from "../optim/optimizer-config.ts";
import { scheduleConfig } from "../optim/schedule.ts";

/** Options of a training run. Names and defaults follow transformers' TrainingArguments where it has them. */
export const trainOptions = z.strictObject({
  epochs: z.number().positive().default(3),
  /** Samples the optimiser sees at once. Costs no memory: a batch is run in micro-batches. */
  batchSize: z.int().positive().default(16),
  /** Padded tokens (or other units of length) that one run sees; 512 keeps the activations in the cache. */
  microBatchTokens: z.int().positive().default(512),
  /**
   * "blocks": activations inside blocks of the model are computed again in the backward pass instead of being kept, for a lower
   * peak and some 40 % more time. Gradients stay equal to the bit.
   */
  recompute: z.enum(["none", "blocks"]).default("none"),
  optimizer: optimizerConfig,
  schedule: scheduleConfig.optional(),
  maxGradNorm: z.number().positive().optional(),
  seed: z.union([z.int(), z.string()]).default(42),
  /** Steps between evaluations; default: at the end of every epoch. */
  evalSteps: z.int().positive().optional(),
  /** Steps between checkpoints; default: with every evaluation. */
  saveSteps: z.int().positive().optional(),
  /** Metric that names the best checkpoint, and whether larger is better. */
  metricForBest: z.string().default("loss"),
  greaterIsBetter: z.boolean().default(false),
  /** Evaluations without improvement before the run stops; never by default. */
  earlyStoppingPatience: z.int().positive().optional(),
  /**
   * Bytes that the training process may take; default what is free when it starts (of the control group, or the machine). A
   * run whose estimate is above is refused. "unlimited" turns that off.
   */
  availableMemory: z.union([z.number().positive(), z.literal("unlimited")]).optional(),
  /** Threads of the engine; default: its own choice. */
  threads: z.int().positive().optional(),
  /** "process" keeps the caller's event loop free; "inline" trains in the calling thread. */
  isolation: z.enum(["process", "inline"]).default("process"),
});
export type TrainOptions = z.output<typeof trainOptions>;
export type TrainOptionsInput = z.input<typeof trainOptions>;
