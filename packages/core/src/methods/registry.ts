import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { bitfit } from "./bitfit.ts";
import { full } from "./full.ts";
import { lnTuning } from "./ln-tuning.ts";
import { lora } from "./lora.ts";
import type { Method } from "./method.ts";

const methods: readonly Method[] = [lora, bitfit, lnTuning, full];

/** Every method this version has. */
export const listMethods = (): readonly Method[] => methods;

/**
 * The method of a `peft_type`.
 * @throws PeftError UNKNOWN_METHOD
 * @example
 * methodOf("LORA").paper; // "2106.09685"
 */
export function methodOf(type: string): Method {
  const method = methods.find((m) => m.type === type.toUpperCase());
  if (method) return method;
  const types = methods.map((m) => m.type);
  const near = nearestName(type, types);
  throw new PeftError("UNKNOWN_METHOD", `No method is called "${type}".`, {
    hint: near ? `Did you mean "${near}"?` : `Methods are ${types.join(", ")}.`,
  });
}
