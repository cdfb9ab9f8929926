import { z } from "zod";
import { type BlockSizes, blockEnds } from "./tri-adapt-blocks.ts";

const dead = (init: string): string =>
  `"${init}" starts with B = C = 0, where every gradient of B·C·A is exactly zero: nothing would ever be learnt`;

/** Options of TriAdaptLoRA. */
export const triAdaptConfig = z.strictObject({
  /** Mean rank of a module that growth aims at. */
  referenceRank: z.int().positive().max(65_536).default(8),
  /** Rank of every module at the start. */
  initRank: z.int().positive().max(65_536).default(1),
  /** The update is multiplied by alpha / (rank + 1e-5); 0 or less: by the initial rank instead of alpha. */
  alpha: z.number().default(16),
  dropout: z.number().min(0).lt(1).default(0),
  /** Steps without growth at the start, and steps between two growths. */
  warmup: z.int().min(0).default(0),
  interval: z.int().positive().default(1),
  /** How many modules grow at once: a share of the missing ranks that rises with the steps, or that many to the power of the share. */
  growth: z.enum(["linear", "nonLinear"]).default("linear"),
  /** Ranks that a growth adds to a module; default half the reference rank, 1 with the start "single". */
  increment: z.int().positive().max(65_536).nullable().default(null),
  /** Sum of ranks at which growth ends; default the reference rank for every module. */
  targetTotalRank: z.int().positive().nullable().default(null),
  /** Steps of the whole training; default those of this one. */
  totalSteps: z.int().positive().nullable().default(null),
  /** Of the penalty that keeps rows of A and columns of B orthonormal. */
  orthReg: z.number().min(0).default(0.5),
  /**
   * Start of a block. "c0": A and B ~ N(0, 0.02²), C = 0, so that growth changes nothing but the scale; "eye": B = 0, both parts of C
   * rectangular identities; "single": blocks of size 1, all four ~ N(0, 0.02²), the first B = 0.
   */
  init: z
    .enum(["c0", "single", "eye", "cb0", "abc0"])
    .default("c0")
    .refine((init) => init !== "cb0" && init !== "abc0", { error: ({ input }) => dead(String(input)) }),
  /** "rank": alpha / rank; or a number that takes its place at every rank. */
  scaleBy: z.union([z.literal("rank"), z.number().positive()]).default("rank"),
  /** Make C larger where growth makes the scale smaller, so that the model does not change at that moment. */
  rescaleOnGrowth: z.boolean().default(false),
  /** Never exceed the target: the last growth adds smaller blocks to the modules of the largest scores. */
  capTotal: z.boolean().default(false),
  /** New ranks follow the learning rate's schedule, or keep the initial one (as a group that joins an optimiser of PyTorch does). */
  growLearningRate: z.enum(["schedule", "constant"]).default("schedule"),
  /** Which modules grow: those of the largest score, or, to compare with, as many drawn at random. */
  choose: z.enum(["score", "random"]).default("score"),
  /** Rank of modules that have grown, by path. */
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).nullable().default(null),
});
export type TriAdaptConfig = z.output<typeof triAdaptConfig>;

/** Ranks that a growth adds to a module. */
export const incrementOf = ({ increment, init, referenceRank }: TriAdaptConfig): number =>
  increment ?? (init === "single" ? 1 : Math.max(1, Math.floor(referenceRank / 2)));

/** How the rank of a module is divided into blocks. */
export const blocksOf = (rank: number, config: TriAdaptConfig): number[] => blockEnds(rank, sizesOf(config));

export const sizesOf = (config: TriAdaptConfig): BlockSizes => ({
  init: config.init,
  initRank: config.initRank,
  step: incrementOf(config),
});

/** What B·C·A is multiplied by at a rank. */
export const triAdaptScale = (rank: number, { alpha, initRank, scaleBy }: TriAdaptConfig): number =>
  scaleBy === "rank" ? (alpha > 0 ? alpha : initRank) / (rank + 1e-5) : scaleBy;
