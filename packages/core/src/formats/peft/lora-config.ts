import { z } from "zod";
import { baseFields, byModule, moduleNames, moduleTarget, parseConfig, shortText } from "./base-config.ts";

/** Above the width of any layer in use; a product r * (in + out) stays far from 2^53. */
export const maxRank = 65_536;
const maxLayers = 10_000;

const rank = z.int().min(1).max(maxRank);
/** `peft` says int, files also hold fractions. Negative values occur in adapters made to subtract. */
const alpha = z.number().min(-1e9).max(1e9);
const layer = z.int().min(0).max(maxLayers);
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
/** Options of a variant that we keep but do not interpret here; `parseConfig` limits their size. */
const options = z.record(z.string(), z.unknown()).nullable().default(null);

/**
 * `adapter_config.json` of LoRA and its variants: the fields of `LoraConfig` in `peft` 0.21 under their names there, with
 * its defaults and with limits. Whether a variant can be computed is for the method to say; this is the file.
 */
export const peftLoraConfig = z.looseObject({
  ...baseFields,
  peft_type: z.literal("LORA"),
  r: rank.default(8),
  lora_alpha: alpha.default(8),
  lora_dropout: z.number().min(0).max(1).default(0),
  target_modules: moduleTarget.nullable().default(null),
  exclude_modules: moduleTarget.nullable().default(null),
  /** Rank of single modules; a key is a name ending or a pattern. */
  rank_pattern: byModule(rank),
  alpha_pattern: byModule(alpha),
  /** Weights stored [in, out], as in GPT-2's Conv1D. */
  fan_in_fan_out: flag,
  /** Biases of the base model that are trained and saved: of no, of all, of the adapted modules. */
  bias: z.enum(["none", "all", "lora_only"]).default("none"),
  /** Scale by alpha / sqrt(r) instead of alpha / r. */
  use_rslora: flag,
  /** Modules trained as a whole and saved with the adapter; a module counts when its name ends so. */
  modules_to_save: moduleNames.nullable().default(null),
  /** true, false, or the name of an initialisation. Some of these ("pissa", "olora", ...) change the base weights. */
  init_lora_weights: z.union([z.boolean(), z.string().max(64)]).default(true),
  layers_to_transform: z
    .union([layer, z.array(layer).max(maxLayers)])
    .nullable()
    .default(null),
  layers_pattern: z.union([moduleNames, shortText]).nullable().default(null),
  layer_replication: z
    .array(z.tuple([layer, layer]))
    .max(maxLayers)
    .nullable()
    .default(null),
  use_dora: flag,
  lora_bias: flag,
  use_qalora: flag,
  qalora_group_size: z.int().min(1).max(maxRank).default(16),
  /** Parameters adapted directly, not through their module. */
  target_parameters: moduleNames.nullable().default(null),
  trainable_token_indices: z
    .union([z.array(z.int().min(0)).max(100_000), z.record(z.string(), z.array(z.int().min(0)).max(100_000))])
    .nullable()
    .default(null),
  alora_invocation_tokens: z.array(z.int().min(0)).max(10_000).nullable().default(null),
  ensure_weight_tying: flag,
  megatron_config: options,
  megatron_core: shortText.nullable().default("megatron.core"),
  loftq_config: options,
  eva_config: options,
  corda_config: options,
  lora_ga_config: options,
  velora_config: options,
  monteclora_config: options,
  use_bdlora: options,
  arrow_config: options,
  kasa_config: options,
});
export type PeftLoraConfig = z.output<typeof peftLoraConfig>;

/**
 * Checks the fields of a LoRA `adapter_config.json` and fills in `peft`'s defaults. Unknown fields are kept. Combinations
 * that `peft` refuses are refused here too.
 *
 * @throws PeftError PEFT_CONFIG_INVALID with every problem
 * @example
 * parseLoraConfig({ peft_type: "LORA", r: 4, target_modules: ["query"] }).lora_alpha; // 8
 */
export function parseLoraConfig(fields: unknown, where = "the LoRA config"): PeftLoraConfig {
  return parseConfig(checked, fields, where);
}

const checked = peftLoraConfig.superRefine((config, context) => {
  const problem = (field: keyof PeftLoraConfig & string, message: string): void =>
    context.addIssue({ code: "custom", path: [field], message });
  const isPattern = typeof config.target_modules === "string";
  if (isPattern && config.layers_to_transform !== null) {
    problem("layers_to_transform", "cannot be given when target_modules is a text");
  }
  if (isPattern && config.layers_pattern !== null) {
    problem("layers_pattern", "cannot be given when target_modules is a text");
  }
  if (config.layers_pattern?.length && config.layers_to_transform === null) {
    problem("layers_pattern", "needs layers_to_transform");
  }
  if (config.lora_bias && config.use_dora) problem("lora_bias", "cannot be combined with use_dora");
  if (config.lora_bias && typeof config.init_lora_weights === "string") {
    problem("lora_bias", "needs init_lora_weights to be true or false");
  }
});
