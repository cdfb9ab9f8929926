import { z } from "zod";
import { baseFields, moduleNames, moduleTarget, parseConfig } from "./base-config.ts";
import { parseLnTuningConfig, peftLnTuningConfig } from "./ln-tuning-config.ts";
import { parseLoraConfig } from "./lora-config.ts";

/** What a config of any method has. `peft` refuses a file without `peft_type`. */
const anyConfig = z.looseObject({
  ...baseFields,
  peft_type: z.string().min(1).max(64),
  target_modules: moduleTarget.nullish(),
  modules_to_save: z.union([moduleNames, z.string().max(1024)]).nullish(),
});

const byType: Readonly<Record<string, (fields: unknown, where: string) => Record<string, unknown>>> = {
  LORA: parseLoraConfig,
  [peftLnTuningConfig.shape.peft_type.value]: parseLnTuningConfig,
};

/**
 * Checks the fields of an `adapter_config.json` by its `peft_type`: LORA and LN_TUNING in full, other types in what all
 * have in common.
 *
 * @throws PeftError PEFT_CONFIG_INVALID with every problem
 */
export function checkAdapterConfig(fields: unknown, where: string): void {
  const { peft_type: type } = parseConfig(anyConfig, fields, where);
  if (Object.hasOwn(byType, type)) byType[type]?.(fields, where);
}
