import type { z } from "zod";

type Step = string | number | symbol;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Removes wrappers that do not change which keys a value may have: optional, default, nullable, readonly, pipe, lazy. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodTypes {
  const typed = schema as z.core.$ZodTypes;
  const def = typed._zod.def;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
    case "catch":
      return unwrap(def.innerType);
    case "pipe":
      return unwrap(def.in);
    case "lazy":
      return unwrap(def.getter());
    default:
      return typed;
  }
}

/** False when a union's option is ruled out by a literal key of the value, such as `type: "sgd"`. */
function couldBe(schema: z.core.$ZodTypes, value: unknown): boolean {
  const def = schema._zod.def;
  if (def.type !== "object" || !isRecord(value)) return true;
  return Object.entries(def.shape).every(([key, field]) => {
    const fieldDef = unwrap(field)._zod.def;
    return fieldDef.type !== "literal" || (fieldDef.values as readonly unknown[]).includes(value[key]);
  });
}

/** The schemas that may describe the value at `path`, each with the value found there. */
function schemasAt(schema: z.core.$ZodType, value: unknown, path: readonly Step[]): [z.core.$ZodTypes, unknown][] {
  const inner = unwrap(schema);
  const def = inner._zod.def;
  if (def.type === "union") {
    const options = def.options.map(unwrap);
    const fitting = options.filter((option) => couldBe(option, value));
    return (fitting.length > 0 ? fitting : options).flatMap((option) => schemasAt(option, value, path));
  }
  if (def.type === "intersection") return [def.left, def.right].flatMap((side) => schemasAt(side, value, path));
  const [step, ...rest] = path;
  if (step === undefined) return [[inner, value]];
  const child = isRecord(value) || Array.isArray(value) ? (value as Record<Step, unknown>)[step] : undefined;
  if (def.type === "object") {
    const field = def.shape[String(step)];
    return field === undefined ? [] : schemasAt(field, child, rest);
  }
  if (def.type === "array") return schemasAt(def.element, child, rest);
  if (def.type === "record") return schemasAt(def.valueType, child, rest);
  if (def.type === "tuple") {
    const item = def.items[Number(step)] ?? def.rest;
    return item === null ? [] : schemasAt(item, child, rest);
  }
  return [];
}

/**
 * The keys a schema allows in the object at `path` of `input`; unions are narrowed by their literal fields.
 *
 * @example
 * knownKeys(z.strictObject({ r: z.int() }), {}, []); // ["r"]
 */
export function knownKeys(schema: z.core.$ZodType, input: unknown, path: readonly Step[]): string[] {
  const keys = new Set<string>();
  for (const [found] of schemasAt(schema, input, path)) {
    const def = found._zod.def;
    if (def.type === "object") for (const key of Object.keys(def.shape)) keys.add(key);
  }
  return [...keys];
}
