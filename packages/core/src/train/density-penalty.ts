import { z } from "zod";
import { type ActivationSite, findActivations } from "../adapters/find-activations.ts";
import type { AdaptedGraph } from "../adapters/inject.ts";
import { compilePattern } from "../adapters/pattern.ts";
import type { Site } from "../adapters/site.ts";
import { findSites } from "../adapters/sites.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { densityLoss } from "../losses/density.ts";
import type { Model, Value } from "../onnx/ir.ts";
import type { Penalty } from "./penalty.ts";

/** Which activations count, and how padding does. */
export const activationChoice = {
  /** "mlp-activation": those of all feed-forward blocks; or a regular expression over the paths of the modules they follow. */
  sites: z.string().min(1).max(32_768).default("mlp-activation"),
  /** Leave padding out of the means; the model's input "attention_mask" ("decoder_attention_mask" in a decoder) says what it is. */
  maskPadding: z.boolean().default(false),
  /** Of gated blocks, where activation and up-projection are multiplied: the activation, or the product. */
  gated: z.enum(["activation", "product"]).default("activation"),
} as const;

export const densityPenaltyConfig = z.strictObject({
  /** Of the penalty in the loss; 0 leaves the training as it is, bit for bit. */
  weight: z.number().min(0).default(1),
  /** |a| = sqrt(eps) counts half. */
  eps: z.number().positive().default(1e-7),
  ...activationChoice,
  /** "encoder-decoder": the mean over the layers of each, added up; "single": one mean over all layers. */
  groups: z.enum(["single", "encoder-decoder"]).default("single"),
});
export type DensityPenaltyOptions = z.input<typeof densityPenaltyConfig>;

interface Choice {
  readonly sites: string;
  readonly gated: "activation" | "product";
}

/**
 * The activations that a pattern chooses.
 * @throws PeftError ACTIVATIONS_NOT_FOUND
 */
export function chosenActivations(model: Model, { sites, gated }: Choice, known?: readonly Site[]): ActivationSite[] {
  const all = findActivations(model, known ?? findSites(model));
  const matches = sites === "mlp-activation" ? () => true : compilePattern(sites);
  const chosen = all.filter(({ name }) => matches(name));
  if (chosen.length > 0) return gated === "product" ? chosen.map((a) => ({ ...a, activation: a.product })) : chosen;
  const found = all.map(({ name }) => name);
  throw new PeftError(
    "ACTIVATIONS_NOT_FOUND",
    found.length === 0
      ? "The model has no feed-forward block: no linear module reads an activation of another one."
      : `No activation fits "${sites}".`,
    { hint: `Activations are named by the module before them: [${found.slice(0, 8).join(", ")}].`, details: { found } },
  );
}

const isDecoder = ({ name }: ActivationSite): boolean => /(^|\.)decoder\./.test(name);

/** The padding mask [batch, tokens] for an activation. @throws PeftError MASK_MISSING */
export function maskFor(g: Builder, activation: ActivationSite): Value {
  const names = isDecoder(activation) ? ["decoder_attention_mask", "attention_mask"] : ["attention_mask"];
  const name = names.find((candidate) => g.has(candidate));
  if (name !== undefined) return g.value(name);
  throw new PeftError("MASK_MISSING", `maskPadding needs the input "${names[0]}", which the model does not have.`);
}

/**
 * The density penalty of DEFT, for training with any adapter method: weight times the mean share of activations that are not
 * (nearly) zero, see {@link densityLoss}. The adapted model then has fewer active units, and nothing else changes: no parameters,
 * the same files. Runwal et al. 2024, arXiv 2402.01911 (peft's type DEFT is something else).
 * Cost: a few element-wise passes over the activations of every layer.
 * @throws PeftError CONFIG_INVALID; when the graph is built ACTIVATIONS_NOT_FOUND, MASK_MISSING
 * @example
 * const program = buildAdapterProgram(adapted, loss, { penalties: [densityPenalty({ weight: 0.1 })] });
 */
export function densityPenalty(input: DensityPenaltyOptions = {}): Penalty {
  const options = parseConfig(densityPenaltyConfig, input, "the density penalty");
  const { weight, eps, groups, maskPadding } = options;
  const densityOf = (g: Builder, sites: readonly ActivationSite[]): Value =>
    densityLoss(
      g,
      sites.map(({ activation }) => g.value(activation)),
      { eps, mask: maskPadding ? maskFor(g, sites[0] as ActivationSite) : null },
    );
  return {
    name: "density",
    build({ g, model }: AdaptedGraph) {
      if (weight === 0) return null;
      const all = chosenActivations(model, options);
      const split = groups === "single" ? [all] : [all.filter((a) => !isDecoder(a)), all.filter(isDecoder)];
      const densities = split.filter((sites) => sites.length > 0).map((sites) => densityOf(g, sites));
      return g.mul(
        densities.reduce((sum, density) => g.add(sum, density)),
        weight,
      );
    },
  };
}
