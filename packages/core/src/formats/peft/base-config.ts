import { z } from "zod";
import { PeftError } from "../../errors.ts";
import { fieldLimits, jsonProblem } from "./json-limits.ts";

/** Longest module name or pattern; real ones have less than 200 characters. */
const maxNameLength = 1024;
/** Regular expressions over module names; generated ones of large vision-language models reach some thousand. */
const maxPatternLength = 32_768;
/** Lists of modules: a diffusion model with every projection named has some thousand. */
const maxListLength = 50_000;

export const moduleName = z.string().min(1).max(maxNameLength);
export const moduleNames = z.array(moduleName).max(maxListLength);
/** A list of name endings, or one regular expression over whole names. */
export const moduleTarget = z.union([moduleNames, z.string().max(maxPatternLength)]);
export const shortText = z.string().max(4096);

/** A record by module name or pattern with a bounded number of entries; null means empty, as in `peft`. */
export const byModule = <T extends z.ZodType>(value: T) =>
  z
    .record(z.string().min(1).max(maxPatternLength), value)
    .refine((record) => Object.keys(record).length <= maxListLength, `expected at most ${maxListLength} entries`)
    .nullish()
    .transform((record) => record ?? {});

/** Task types that `peft` 0.21 knows; it refuses others. */
export const taskTypes = [
  "SEQ_CLS",
  "SEQ_2_SEQ_LM",
  "CAUSAL_LM",
  "TOKEN_CLS",
  "QUESTION_ANS",
  "FEATURE_EXTRACTION",
] as const;

/** Fields of every method (`PeftConfigMixin` and `PeftConfig` in `peft`), with its defaults. */
export const baseFields = {
  task_type: z.enum(taskTypes).nullable().default(null),
  base_model_name_or_path: shortText.nullable().default(null),
  revision: shortText.nullable().default(null),
  inference_mode: z.boolean().nullable().default(false),
  peft_version: shortText.nullable().default(null),
  auto_mapping: z.record(shortText, z.unknown()).nullable().default(null),
};

/**
 * Checks a config against a schema. Fields that the schema does not know are kept, as newer versions of `peft` add some,
 * but limited in size.
 *
 * @throws PeftError PEFT_CONFIG_INVALID with every problem
 */
export function parseConfig<T extends z.ZodType>(schema: T, fields: unknown, where: string): z.output<T> {
  const problems: string[] = [];
  if (typeof fields === "object" && fields !== null && !Array.isArray(fields)) {
    for (const [key, value] of Object.entries(fields)) {
      const odd = key === "__proto__" || key.length > maxNameLength;
      const problem = odd ? "not a field name" : value === undefined ? null : jsonProblem(value, fieldLimits);
      if (problem) problems.push(`${key.slice(0, 100)}: ${problem}`);
    }
  }
  // Values of any size are only given to the schema once they are known to be small.
  if (problems.length === 0) {
    const result = schema.safeParse(fields);
    if (result.success) return result.data;
    for (const { path, message } of result.error.issues) {
      problems.push(`${path.map(String).join(".").slice(0, 200) || "the config"}: ${message.slice(0, 300)}`);
    }
  }
  const shown = problems.slice(0, 20).join("; ");
  const more = problems.length > 20 ? `; and ${problems.length - 20} more` : "";
  throw new PeftError("PEFT_CONFIG_INVALID", `${where} is not a valid adapter config: ${shown}${more}.`, {
    details: { problems: problems.slice(0, 100) },
  });
}
