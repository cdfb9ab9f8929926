import { z } from "zod";
import { optimizerConfig } from "../optim/optimizer-config.ts";
import { scheduleConfig } from "../optim/schedule.ts";
import { devices } from "../runtime/device.ts";

const prefixCacheConfig = z.union([
  z.enum(["off", "memory"]),
  z.strictObject({
    /** Where the file lies; in memory without one. */
    folder: z.string().optional(),
    maxBytes: z
      .number()
      .positive()
      .default(2 ** 30),
    /** "float16" halves the space; numbers above 65504 would not fit. */
    precision: z.enum(["float32", "float16"]).default("float32"),
  }),
]);

/** Options of a training run. Names and defaults follow transformers' TrainingArguments where it has them. */
export const trainOptions = z.strictObject({
  epochs: z.number().positive().default(3),
  /** Samples the optimiser sees at once. Costs no memory: a batch is run in micro-batches. */
  batchSize: z.int().positive().default(16),
  /**
   * Puts samples of like length into a batch, which saves padding and time; which ones depends on chance still. As `group_by_length`
   * of transformers; the same default.
   */
  groupByLength: z.boolean().default(false),
  /**
   * Padded tokens (or other units of length) that one run sees. Default on the CPU 512, which keeps the activations in the cache, on
   * a GPU 16,384: a run there costs as much as some thousand tokens.
   */
  microBatchTokens: z.int().positive().optional(),
  /**
   * "blocks": activations inside blocks of the model are computed again in the backward pass instead of being kept, for a lower
   * peak and some 40 % more time. Gradients stay equal to the bit.
   */
  recompute: z.enum(["none", "blocks"]).default("none"),
  /**
   * Activations below the lowest adapted layer are the same in every epoch: they are computed once and kept, in memory or in a
   * file of `folder` that is removed at the end, up to `maxBytes` (default 1 GiB); samples that do not fit are computed again each
   * time. For samples whose feeds never change, and models that mask padding or never mix it with other tokens. Default "off".
   */
  prefixCache: prefixCacheConfig.default("off"),
  /** "off" leaves out the dropout of frozen layers whose activations are kept; with "on" such layers are refused. */
  prefixDropout: z.enum(["on", "off"]).default("on"),
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
   * Bytes that the training process may take, or on a GPU its memory there; default what is free when it starts (of the control
   * group, or the machine), and nothing on a GPU. A run whose estimate is above is refused. "unlimited" turns that off.
   */
  availableMemory: z.union([z.number().positive(), z.literal("unlimited")]).optional(),
  /** Threads of the engine; default: its own choice. */
  threads: z.int().positive().optional(),
  /**
   * Where training and evaluation run: "cuda" on an NVIDIA GPU, "webgpu" on any. What a GPU has no kernel for runs on the CPU; the
   * "device" event says what. Runs are larger there, see `microBatchTokens`. "cuda" computes products in float32, not TF32, unless the
   * environment sets NVIDIA_TF32_OVERRIDE (inline: only where it sets it to 0).
   */
  device: z.enum(devices).default("cpu"),
  /** "process" keeps the caller's event loop free; "inline" trains in the calling thread. */
  isolation: z.enum(["process", "inline"]).default("process"),
});
export type TrainOptions = z.output<typeof trainOptions>;
export type TrainOptionsInput = z.input<typeof trainOptions>;
