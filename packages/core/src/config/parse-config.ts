import type { z } from "zod";
import { PeftError } from "../errors.ts";
import { knownKeys } from "./known-keys.ts";
import { nearestName } from "./nearest-name.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** One thing wrong with a configuration. */
export interface ConfigProblem {
  /** Dotted place below the configuration's own name, for example `schedule.warmupSteps`; empty for the whole. */
  path: string;
  problem: string;
}

const dotted = (path: Path): string =>
  path.map((step, i) => (typeof step === "number" ? `[${step}]` : `${i > 0 ? "." : ""}${String(step)}`)).join("");

function valueAt(input: unknown, path: Path): unknown {
  let value = input;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

/** A value as a user would recognise it, cut to 60 characters. */
function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "function") return "a function";
  const text = typeof value === "number" || typeof value === "bigint" ? String(value) : JSON.stringify(value);
  if (text === undefined) return typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

const quoted = (values: readonly unknown[]): string => values.map(show).join(", ");

/** " (did you mean ...?)", or the whole list where nothing is near. */
function suggestion(name: unknown, candidates: readonly string[], listName: string): string {
  const nearest = typeof name === "string" ? nearestName(name, candidates) : undefined;
  if (nearest !== undefined) return `; did you mean ${show(nearest)}?`;
  return candidates.length > 0 ? `; ${listName}: ${candidates.join(", ")}` : "";
}

function problemsOf(issue: Issue, schema: z.core.$ZodType, input: unknown, base: Path): ConfigProblem[] {
  const full = [...base, ...issue.path];
  const path = dotted(full);
  const received = valueAt(input, full);
  if (issue.code === "unrecognized_keys") {
    const keys = knownKeys(schema, input, full as (string | number)[]);
    return issue.keys.map((key) => ({
      path: dotted([...full, key]),
      problem: `unknown key ${show(key)}${suggestion(key, keys, "known keys")}`,
    }));
  }
  if (issue.code === "invalid_union") {
    const { options } = issue as { options?: readonly unknown[] };
    if (options !== undefined) {
      const names = options.map(String);
      const problem = `expected one of ${quoted(options)}, received ${show(received)}`;
      const nearest = typeof received === "string" ? nearestName(received, names) : undefined;
      return [{ path, problem: nearest === undefined ? problem : `${problem}; did you mean ${show(nearest)}?` }];
    }
    const reasons = issue.errors.map((alternative) =>
      alternative
        .flatMap((nested) => problemsOf(nested as Issue, schema, input, full))
        .map(({ path: where, problem }) => (where === path ? problem : `${where}: ${problem}`))
        .join(" and "),
    );
    return [{ path, problem: `received ${show(received)}, and no alternative fits: ${reasons.join("; or ")}` }];
  }
  if (issue.code === "invalid_value") {
    const problem = `expected one of ${quoted(issue.values)}, received ${show(received)}`;
    const nearest = typeof received === "string" ? nearestName(received, issue.values.map(String)) : undefined;
    return [{ path, problem: nearest === undefined ? problem : `${problem}; did you mean ${show(nearest)}?` }];
  }
  if (issue.code === "custom") return [{ path, problem: issue.message }];
  // "Invalid input: expected number, received string" and "Too small: expected number to be >0": ours shows the value.
  const expected = /expected (.*?)(?:, received .*)?$/.exec(issue.message)?.[1];
  return [{ path, problem: expected ? `expected ${expected}, received ${show(received)}` : issue.message }];
}

/**
 * Checks a configuration from outside against a schema and returns it with its defaults filled in. All problems are reported at
 * once; unknown keys (of strict objects) come with the nearest known key.
 *
 * @param schema zod schema; use `z.strictObject` so that misspelled options cannot pass unnoticed.
 * @param input anything: parsed JSON, or the options object of a caller.
 * @param where what is being read, for the message: an option's name or a file.
 * @throws PeftError CONFIG_INVALID; `details.problems` is the list of {@link ConfigProblem}.
 * @example
 * parseConfig(z.strictObject({ r: z.int().positive().default(8) }), { rank: 4 }, "lora");
 * // CONFIG_INVALID: expected a valid configuration at "lora", received 1 problem:
 * //   rank: unknown key "rank"; known keys: r
 */
export function parseConfig<T extends z.ZodType>(schema: T, input: unknown, where: string): z.output<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) => problemsOf(issue, schema, input, []));
  const lines = problems.map(({ path, problem }) => `\n  ${path === "" ? problem : `${path}: ${problem}`}`).join("");
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  throw new PeftError("CONFIG_INVALID", `expected a valid configuration at "${where}", received ${count}:${lines}`, {
    details: { where, problems },
  });
}
