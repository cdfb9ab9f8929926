import { z } from "zod";
import { baseFields, moduleNames, moduleTarget, parseConfig } from "./base-config.ts";

/**
 * `adapter_config.json` of LN tuning: the fields of `LNTuningConfig` in `peft` 0.21 with its defaults. The target
 * modules are trained as a whole, so nothing else is to be said of them.
 */
export const peftLnTuningConfig = z.looseObject({
  ...baseFields,
  peft_type: z.literal("LN_TUNING"),
  target_modules: moduleTarget.nullable().default(null),
  exclude_modules: moduleTarget.nullable().default(null),
  /** `peft` also accepts one name. */
  modules_to_save: z
    .union([
      moduleNames,
      z
        .string()
        .min(1)
        .max(1024)
        .transform((name) => [name]),
    ])
    .nullable()
    .default(null),
});
export type PeftLnTuningConfig = z.output<typeof peftLnTuningConfig>;

/**
 * Checks the fields of an LN tuning `adapter_config.json`. Unknown fields are kept.
 * @throws PeftError PEFT_CONFIG_INVALID with every problem
 */
export const parseLnTuningConfig = (fields: unknown, where = "the LN tuning config"): PeftLnTuningConfig =>
  parseConfig(peftLnTuningConfig, fields, where);
