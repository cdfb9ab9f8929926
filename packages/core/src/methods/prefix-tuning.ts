import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { roleOf, toMatrix } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { type LayerStack, stackForward, stackResult, stackSpecs } from "./layer-stack.ts";
import { defineMethod, noForward, type ParameterSpec } from "./method.ts";
import { promptForms, promptKeys } from "./prompt-files.ts";

// 1. Config
export const prefixTuningConfig = z.strictObject({
  /** Keys and values that stand before those of every sequence, in every block. */
  numVirtualTokens: z.int().positive().max(65_536),
  /** They are made from one embedding by two layers while they train: P-tuning v2's reparameterisation. */
  prefixProjection: z.boolean().default(false),
  /** Width between the two layers; default the width of all keys of a block. */
  encoderHiddenSize: z
    .int()
    .positive()
    .max(1 << 20)
    .optional(),
  /** "zero" starts all keys and values at zero; null draws them from N(0, 1). */
  initWeights: z.literal("zero").nullable().default(null),
  /** The prefix itself is stored, and not what makes it: the form of files. */
  exported: z.boolean().default(false),
});
export type PrefixTuningConfig = z.output<typeof prefixTuningConfig>;

/** Width of a block's keys, the same in all blocks. @throws PeftError SIZE_MISMATCH */
function widthOf(sites: readonly SiteShape[]): number {
  const [first] = sites;
  const width = first?.inFeatures ?? 0;
  const other = sites.find((site) => site.inFeatures !== width || site.outFeatures !== width);
  if (!other) return width;
  throw new PeftError(
    "SIZE_MISMATCH",
    `One prefix serves blocks of one width: "${first?.name}" has keys of width ${width}, "${other.name}" keys and values of ${other.inFeatures} and ${other.outFeatures}.`,
  );
}

const projection = (config: PrefixTuningConfig, width: number, blocks: number): LayerStack => ({
  name: "transform",
  widths: [width, config.encoderHiddenSize ?? width, 2 * blocks * width],
  activation: "tanh",
});

/** The same, from the sizes of its tensors. */
const storedProjection = (tensors: Parameters<typeof stackResult>[1]): LayerStack => {
  const [first, last] = ["transform.0.weight", "transform.2.weight"].map((role) => roleOf(tensors, role).dims);
  return { name: "transform", widths: [first?.[1] ?? 0, first?.[0] ?? 0, last?.[0] ?? 0], activation: "tanh" };
};

const forms = promptForms<PrefixTuningConfig>((tensors, { prefixProjection }) => {
  if (!prefixProjection) return roleOf(tensors, "prompt");
  const made = stackResult(toMatrix(roleOf(tensors, "embedding.weight")), tensors, storedProjection(tensors));
  return { dims: [made.rows, made.columns], data: Float32Array.from(made.data) };
});

/**
 * Prefix tuning: v trained keys and values stand before those of every sequence in every attention block. Li and Liang 2021, arXiv
 * 2101.00190; with `prefixProjection` false it is P-tuning v2 (Liu et al., 2110.07602). As peft's PREFIX_TUNING: one table [v, 2 L h], slot 2l the
 * keys and 2l + 1 the values of block l, each [v, heads, width], h the width of all keys (shared heads count once); N(0, 1). Positions of the
 * real tokens move up by v. softmax([q·P_kᵀ, q·Kᵀ])·[P_v; V]. Reparameterised: table = W₂ tanh(W₁ E + b₁) + b₂, E [v, h]; files hold the table alone.
 *
 * Keys join the scores of each block, so masks of the file stay as they are, and hidden states keep their length. A learned position table
 * must have v rows more than the longest sequence. Not an identity start: even keys and values of zero take a share of the softmax.
 */
export const prefixTuning = defineMethod<PrefixTuningConfig>({
  type: "PREFIX_TUNING",
  paper: "2101.00190",
  kinds: ["attention"],
  identityAtStart: false,
  neutral: "empty",
  config: prefixTuningConfig,
  defaultTargets: () => true,
  wholeModel: true,
  refuses: ({ attention }) =>
    attention?.crosses ? "its keys come from another sequence: encoder-decoder models are not supported" : null,
  virtualTokens: {
    as: "positions",
    role: ({ prefixProjection, exported }) => (prefixProjection && !exported ? "embedding.weight" : "prompt"),
  },
  // 2. Parameters
  parameters: () => ({}),
  shared(sites, config): Record<string, ParameterSpec> {
    const { numVirtualTokens: v, prefixProjection, exported, initWeights } = config;
    const width = widthOf(sites);
    const table = (columns: number, isZero: boolean): ParameterSpec => ({
      ...{ shape: [v, columns], free: ["tokens", null], init: isZero ? zeros : normal(1) },
    });
    const isZero = initWeights === "zero";
    if (exported || !prefixProjection) return { prompt: table(2 * sites.length * width, isZero) };
    return { "embedding.weight": table(width, false), ...stackSpecs(projection(config, width, sites.length), isZero) };
  },
  derive(g, shared, config, sites) {
    const width = widthOf(sites);
    const stack = projection(config, width, sites.length);
    const table = shared["prompt"] ?? stackForward(g, roleOf(shared, "embedding.weight"), shared, stack);
    const parts = g.split(table, new Array<number>(2 * sites.length).fill(width), 1);
    return Object.fromEntries(parts.map((part, slot) => [`slot:${slot}`, part]));
  },
  // 3. Forward
  forward: noForward,
  attend(_, { index, heads, sizes }, values) {
    return {
      join: {
        keys: heads(roleOf(values, `slot:${2 * index}`), sizes.keyWidth),
        values: () => heads(roleOf(values, `slot:${2 * index + 1}`), sizes.valueWidth),
      },
    };
  },
  // 4. Delta
  delta: null,
  noDelta: "keys and values that every sequence sees are no change of a weight",
  noMixedBatch: "attention blocks are not cut into rows",
  // 5. Keys
  keys: {},
  sharedKeys: promptKeys,
  swap: forms.swap,
  peft: { write: forms.write, read: forms.read },
});
