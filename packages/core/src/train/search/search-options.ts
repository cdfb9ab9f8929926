import { z } from "zod";

/** Options of DiffoRA: what is searched, and how. */
export const difforaConfig = z.strictObject({
  /** Rank of every module in the search and of the kept ones afterwards. */
  r: z.int().positive().max(65_536).default(8),
  alpha: z.number().default(16),
  dropout: z.number().min(0).lt(1).default(0),
  /** Share of the modules that is kept. */
  ratio: z.number().gt(0).max(1).default(0.5),
  /** Gate of a module: sigmoid of its own logit, or softmax over the modules of a layer times their number; "none": the logit itself. */
  relaxation: z.enum(["sigmoid", "rowSoftmax", "none"]).default("sigmoid"),
  /** Keep the modules of the largest gates of the whole model, or the same share of every layer. */
  selection: z.enum(["global", "perLayer"]).default("global"),
  /** Start of the kept modules: the searched factors with the gate folded into B, or new ones. */
  weights: z.enum(["inherit", "fresh"]).default("inherit"),
  /** Pairs of a weight step and a gate step. */
  searchSteps: z.int().positive(),
  /** Share of the training samples that gates are judged on. */
  valSplit: z.number().gt(0).lt(1).default(0.5),
  gateLearningRate: z.number().positive().default(3e-3),
  gateBetas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.5, 0.999]),
  gateWeightDecay: z.number().min(0).default(1e-3),
  /** 1: gates see the weights as they are; 2: as they would be one step ahead (DARTS), at five times the cost of a gate step. */
  order: z.literal([1, 2]).default(1),
  /** Steps between two looks at the gates. */
  evalSteps: z.int().positive().default(10),
  /** Looks at which the kept modules and their order were the same, after which the search ends; default never. */
  stableFor: z.int().positive().nullable().default(null),
});
export type DifforaConfig = z.output<typeof difforaConfig>;
export type DifforaInput = z.input<typeof difforaConfig>;
