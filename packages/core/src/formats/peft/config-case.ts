import { PeftError } from "../../errors.ts";

const camelOf = (key: string): string =>
  key.replace(/(?<=[a-z0-9])_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const snakeOf = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function convert(
  fields: Readonly<Record<string, unknown>>,
  there: (key: string) => string,
  back: (key: string) => string,
): Record<string, unknown> {
  const unsuitable = Object.keys(fields).filter((key) => back(there(key)) !== key);
  if (unsuitable.length > 0) {
    const shown = unsuitable.slice(0, 10).map((key) => JSON.stringify(key.slice(0, 100)));
    throw new PeftError("CONFIG_FIELD_NAME", `expected field names of one case, received ${shown.join(", ")}.`, {
      hint: "Files have snake_case names, options in TypeScript have camelCase names.",
    });
  }
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [there(key), value]));
}

/**
 * Fields of an `adapter_config.json` under their names in TypeScript. This module is the only place where the case of
 * names changes. Only the top level is converted: inside `rank_pattern` and the like, keys are module names.
 *
 * @throws PeftError CONFIG_FIELD_NAME for a name that would not come back as it was
 * @example
 * camelFromSnake({ lora_alpha: 16, rank_pattern: { q_lin: 4 } }); // { loraAlpha: 16, rankPattern: { q_lin: 4 } }
 */
export const camelFromSnake = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  convert(fields, camelOf, snakeOf);

/**
 * The inverse of {@link camelFromSnake}.
 * @throws PeftError CONFIG_FIELD_NAME
 * @example
 * snakeFromCamel({ useRslora: true }); // { use_rslora: true }
 */
export const snakeFromCamel = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  convert(fields, snakeOf, camelOf);
