import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { nonLinearities } from "./activations.ts";

/** At one linear module: in front of it, behind it or beside it; "auto" is in front where it widens, else behind. */
export const linearPlacements = ["auto", "input", "output", "parallel"] as const;
/** At a residual branch of a layer. */
export const blockPlacements = ["houlsby", "pfeiffer", "pfeifferParallel"] as const;
export type BlockPlacement = (typeof blockPlacements)[number];

/** Options of adapters at residual branches, as AdapterHub names them. Which value is taken when one is left out: {@link presets}. */
export const blockFields = {
  /** By default behind attention of a sequence to itself. */
  mhAdapter: z.boolean().optional(),
  /** By default behind the feed-forward part. */
  outputAdapter: z.boolean().optional(),
  /** By default behind attention to another sequence. */
  crossAdapter: z.boolean().optional(),
  /** The adapter reads the layer's own norm of (result + residual stream), not the result alone. */
  originalLnBefore: z.boolean().optional(),
  /**
   * What the adapter's output is added to, where `originalLnBefore` is true: the branch's result (true), what the adapter read (false), or
   * the sum with the residual stream ("postAdd").
   */
  residualBeforeLn: z.union([z.boolean(), z.literal("postAdd")]).optional(),
  /** A norm of the adapter's own at its input. */
  lnBefore: z.boolean().optional(),
  /** A norm of the adapter's own at its output. */
  lnAfter: z.boolean().optional(),
  /** With `lnAfter`: the norm is one of output and residual together. */
  adapterResidualBeforeLn: z.boolean().optional(),
  /** "pfeifferParallel": the adapter reads the residual stream as it is, or what the branch reads (its norm, in pre-norm models). */
  parallelInput: z.enum(["residual", "branch"]).optional(),
  /** One gate per sequence in (0, 1): the mean over its tokens of a trained sigmoid of what the adapter reads. */
  useGating: z.boolean().optional(),
  /** Width of the bottleneck: the hidden size divided by this, rounded down. */
  reductionFactor: z.number().positive().optional(),
  nonLinearity: nonLinearities.optional(),
  /** Factor of the output; "learned" is one number, "channel" one per feature, all 1 at the start. */
  scaling: z.union([z.number(), z.enum(["learned", "channel"])]).optional(),
  /** Share of the adapter's output that is dropped in training; at a single linear module of its input. */
  dropout: z.number().min(0).lt(1).default(0),
} as const;

export type BlockFields = z.output<z.ZodObject<typeof blockFields>>;
export type BlockConfig = { readonly [K in keyof BlockFields]-?: NonNullable<BlockFields[K]> };

const common: Omit<BlockConfig, "dropout"> = {
  mhAdapter: false,
  outputAdapter: true,
  crossAdapter: false,
  originalLnBefore: false,
  residualBeforeLn: true,
  lnBefore: false,
  lnAfter: false,
  adapterResidualBeforeLn: false,
  parallelInput: "residual",
  useGating: false,
  reductionFactor: 16,
  nonLinearity: "relu",
  scaling: 1,
};

/** What the placements stand for: `double_seq_bn`, `seq_bn` and `par_bn` of AdapterHub. */
const presets: Readonly<Record<BlockPlacement, Omit<BlockConfig, "dropout">>> = {
  houlsby: { ...common, mhAdapter: true, nonLinearity: "swish" },
  pfeiffer: { ...common, originalLnBefore: true },
  pfeifferParallel: { ...common, reductionFactor: 2, scaling: 4 },
};

/** The options of a placement at residual branches, with everything that was left out. */
export function blockConfig(fields: BlockFields, placement: BlockPlacement): BlockConfig {
  const given = Object.fromEntries(
    Object.keys(common).flatMap((key) => {
      const value = fields[key as keyof BlockFields];
      return value === undefined ? [] : [[key, value]];
    }),
  );
  return { ...presets[placement], ...given, dropout: fields.dropout };
}

/** Whether an adapter of this config belongs behind the residual branch that a module ends. */
export function wantsBranch({ sublayer }: SiteShape, config: BlockConfig): boolean {
  if (sublayer?.place !== "last") return false;
  const { mhAdapter, outputAdapter, crossAdapter } = config;
  return { attention: mhAdapter, feedForward: outputAdapter, crossAttention: crossAdapter }[sublayer.kind];
}

/** Why a module cannot have an adapter at a residual branch, or null. */
export const noBranch = ({ sublayer }: SiteShape): string | null =>
  sublayer?.place === "last" ? null : "its result is not what is added to a residual stream";

/** Rows of the down projection: at least one. */
export const bottleneckWidth = (width: number, reductionFactor: number): number =>
  Math.max(1, Math.floor(width / reductionFactor));

/** Whether zeros in the adapter's projections leave the model as it is. */
export const leavesBase = ({ residualBeforeLn, lnAfter, adapterResidualBeforeLn, originalLnBefore }: BlockConfig) =>
  (residualBeforeLn === true || !originalLnBefore) && !(lnAfter && adapterResidualBeforeLn);
