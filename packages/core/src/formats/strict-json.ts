import { PeftError } from "../errors.ts";

/** JSON as {@link parseStrictJson} returns it: objects are maps, so that no key is special. */
export type StrictJson = string | number | boolean | null | StrictJson[] | Map<string, StrictJson>;

export interface StrictJsonOptions {
  /** What the text is, for messages: a file name. */
  readonly where: string;
  /** Error code to throw. */
  readonly code: string;
  /** Nesting of objects and arrays; default 16. */
  readonly maxDepth?: number;
  /** Accept only plain whole numbers >= 0 (`12`, not `-1`, `1.0`, `1e3`); default false. */
  readonly wholeNumbersOnly?: boolean;
}

const space = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const wholeNumber = /(?:0|[1-9]\d*)(?![.eE\d])/y;
/** A string without escapes or control characters (DEL and beyond are allowed, but take the slow way). */
const plainString = /"[^"\\\p{Cc}]*"/uy;
const loneSurrogate = /\p{Surrogate}/u;
const words = new Map<string, boolean | null>([
  ["true", true],
  ["false", false],
  ["null", null],
]);

/**
 * Parses JSON and refuses what `JSON.parse` lets pass: a key given twice in one object (each reader would believe
 * another value), nesting without limit, texts with half a surrogate pair, infinite numbers. Linear in the text.
 *
 * @throws PeftError with the given code; the message names the place.
 * @example
 * parseStrictJson('{"r": 8}', { where: "adapter_config.json", code: "PEFT_CONFIG_INVALID" }); // Map { "r" => 8 }
 */
export function parseStrictJson(text: string, options: StrictJsonOptions): StrictJson {
  const { where, code, maxDepth = 16, wholeNumbersOnly = false } = options;
  let at = 0;

  const fail = (expected: string): never => {
    const found = at < text.length ? JSON.stringify(text.slice(at, at + 12)) : "the end";
    throw new PeftError(code, `expected ${expected}, received ${found} at character ${at} of ${where}.`);
  };
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const skipSpace = (): void => {
    match(space);
  };

  function string(): string {
    const start = at;
    const plain = match(plainString);
    const value = plain !== undefined ? plain.slice(1, -1) : escapedString(start);
    if (loneSurrogate.test(value)) {
      at = start;
      fail("a text of whole characters");
    }
    return value;
  }

  /** By hand: a regular expression with alternatives overflows the stack on a text of some megabytes. */
  function escapedString(start: number): string {
    let end = start + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    try {
      const value = JSON.parse(text.slice(start, end + 1)) as string;
      at = end + 1;
      return value;
    } catch {
      return fail("a string with valid escapes and a closing quote");
    }
  }

  function object(depth: number): Map<string, StrictJson> {
    const entries = new Map<string, StrictJson>();
    at++;
    skipSpace();
    if (text[at] === "}") {
      at++;
      return entries;
    }
    for (;;) {
      const start = at;
      const key = text[at] === '"' ? string() : fail("a key");
      if (entries.has(key)) {
        at = start;
        fail(`every key once (${JSON.stringify(key.slice(0, 200))} was given before)`);
      }
      skipSpace();
      if (text[at] !== ":") fail('":"');
      at++;
      entries.set(key, value(depth + 1));
      skipSpace();
      const next = text[at];
      if (next !== "," && next !== "}") fail('"," or "}"');
      at++;
      if (next === "}") return entries;
      skipSpace();
    }
  }

  function array(depth: number): StrictJson[] {
    const items: StrictJson[] = [];
    at++;
    skipSpace();
    if (text[at] === "]") {
      at++;
      return items;
    }
    for (;;) {
      items.push(value(depth + 1));
      skipSpace();
      const next = text[at];
      if (next !== "," && next !== "]") fail('"," or "]"');
      at++;
      if (next === "]") return items;
    }
  }

  function value(depth: number): StrictJson {
    skipSpace();
    if (depth > maxDepth) fail(`at most ${maxDepth} levels`);
    const first = text[at];
    if (first === "{") return object(depth);
    if (first === "[") return array(depth);
    if (first === '"') return string();
    for (const [word, meaning] of words) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    const start = at;
    const digits = match(wholeNumbersOnly ? wholeNumber : number);
    const parsed = Number(digits ?? fail(wholeNumbersOnly ? "a whole number" : "a value"));
    if (!Number.isFinite(parsed)) {
      at = start;
      fail("a finite number");
    }
    return parsed;
  }

  const result = value(0);
  skipSpace();
  if (at < text.length) fail("the end");
  return result;
}

/**
 * Maps of {@link parseStrictJson} as plain objects. A key "__proto__" becomes an own property like any other.
 */
export function plainJson(json: StrictJson): unknown {
  if (Array.isArray(json)) return json.map(plainJson);
  if (json instanceof Map) return Object.fromEntries([...json].map(([key, value]) => [key, plainJson(value)]));
  return json;
}

/**
 * UTF-8 bytes as text, refused when they are not valid UTF-8.
 * @throws PeftError with the given code.
 */
export function decodeUtf8(bytes: Uint8Array, where: string, code: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new PeftError(code, `expected UTF-8 text in ${where}, received other bytes.`, { cause });
  }
}
