import { PeftError } from "../errors.ts";

/**
 * Regular expressions from configuration files, matched in polynomial time. A backtracking engine can be made to run for
 * years by a pattern of ten characters; this one follows all positions at once (Thompson 1968), and a match that still
 * takes too many steps is refused. It answers yes or no for the whole text, as Python's `re.fullmatch` does. Not
 * supported, and refused: back-references, inline flags, look-behind, conditionals.
 */
type Item =
  | { readonly kind: "char"; readonly test: (char: string) => boolean }
  | { readonly kind: "assert"; readonly test: (text: string, at: number) => boolean }
  | { readonly kind: "look"; readonly body: Item; readonly negative: boolean }
  | { readonly kind: "sequence"; readonly items: readonly Item[] }
  | { readonly kind: "choice"; readonly items: readonly Item[] }
  | { readonly kind: "repeat"; readonly body: Item; readonly min: number; readonly max: number };

const maxLength = 32_768;
const maxText = 1024;
const maxRepeat = 1000;
const maxDepth = 100;
const maxNesting = 4;
/**
 * Positions followed in one match, some 50 ms. A pattern of 500 whole names of 100 characters behind `.*` takes 150,000 on a
 * name of that length; patterns made to be slow take millions.
 */
const maxSteps = 500_000;

/** Counts the positions that a match follows. */
interface Budget {
  left: number;
}

/** What a compiled pattern may take, over all: real configs use some hundred different ones. */
const cacheCharacters = 8_000_000;
const cache = new Map<string, (text: string) => boolean>();
let cached = 0;

const sameSet = (a: ReadonlySet<number>, b: ReadonlySet<number>): boolean =>
  a.size === b.size && [...a].every((x) => b.has(x));

/** How deep repetitions (or look-aheads) are nested: each level multiplies the cost. */
function nesting(item: Item, kind: "repeat" | "look"): number {
  const inner = "items" in item ? item.items : "body" in item ? [item.body] : [];
  return inner.reduce((deepest, part) => Math.max(deepest, nesting(part, kind)), 0) + (item.kind === kind ? 1 : 0);
}

/** Every end that `item` can reach from `starts`. */
function step(item: Item, text: string, starts: ReadonlySet<number>, budget: Budget): ReadonlySet<number> {
  if (starts.size === 0) return starts;
  budget.left -= starts.size;
  if (budget.left < 0) {
    throw new PeftError("PATTERN", `A pattern takes more than ${maxSteps} steps on the name "${text.slice(0, 80)}".`, {
      hint: "Nest fewer repetitions.",
    });
  }
  switch (item.kind) {
    case "char":
      return new Set([...starts].filter((i) => i < text.length && item.test(text.charAt(i))).map((i) => i + 1));
    case "assert":
      return new Set([...starts].filter((i) => item.test(text, i)));
    case "look":
      return new Set([...starts].filter((i) => step(item.body, text, new Set([i]), budget).size > 0 !== item.negative));
    case "sequence":
      return item.items.reduce((ends, part) => step(part, text, ends, budget), starts);
    case "choice":
      return new Set(item.items.flatMap((part) => [...step(part, text, starts, budget)]));
    case "repeat": {
      let current = starts;
      for (let i = 0; i < item.min && current.size > 0; i++) {
        const next = step(item.body, text, current, budget);
        if (sameSet(next, current)) break; // every further round gives the same
        current = next;
      }
      const ends = new Set(current);
      for (let i = item.min; i < item.max && current.size > 0; i++) {
        current = new Set([...step(item.body, text, current, budget)].filter((end) => !ends.has(end)));
        for (const end of current) ends.add(end);
      }
      return ends;
    }
  }
}

const isWord = (char: string): boolean => /^[\p{L}\p{N}_]$/u.test(char);
const classes: Readonly<Record<string, (char: string) => boolean>> = {
  d: (c) => /^\p{Nd}$/u.test(c),
  w: isWord,
  s: (c) => /^\s$/.test(c),
};

/** Reads a pattern by recursive descent; the functions below share the position. */
function parse(source: string): Item {
  let at = 0;
  let depth = 0;
  const item = choice();
  if (at < source.length) fail("an unmatched )");
  if (nesting(item, "repeat") > maxNesting) fail(`repetitions nested more than ${maxNesting} deep`);
  if (nesting(item, "look") > 1) fail("a look-ahead inside a look-ahead");
  return item;

  function fail(what: string): never {
    const shown = source.length > 80 ? `${source.slice(0, 77)}...` : source;
    throw new PeftError("PATTERN", `The pattern "${shown}" has ${what} at position ${at}.`, {
      hint: "Patterns are matched against whole module names; use plain groups, classes, |, *, +, ? and {m,n}.",
    });
  }

  function eat(text: string): boolean {
    if (!source.startsWith(text, at)) return false;
    at += text.length;
    return true;
  }

  function choice(): Item {
    if (++depth > maxDepth) fail(`groups nested more than ${maxDepth} deep`);
    const items: Item[] = [sequence()];
    while (eat("|")) items.push(sequence());
    depth--;
    const [only] = items;
    return items.length === 1 && only ? only : { kind: "choice", items };
  }

  function sequence(): Item {
    const items: Item[] = [];
    while (at < source.length && !"|)".includes(source.charAt(at))) items.push(repeated());
    return { kind: "sequence", items };
  }

  function repeated(): Item {
    const body = atom();
    const [min, max] = quantifier();
    if (min === 1 && max === 1) return body;
    if ("*+?{".includes(source.charAt(at) || " ")) {
      if (!eat("?")) fail("a repeated repetition"); // lazy or greedy makes no difference to a full match
    }
    return { kind: "repeat", body, min, max };
  }

  function quantifier(): [number, number] {
    if (eat("*")) return [0, Number.POSITIVE_INFINITY];
    if (eat("+")) return [1, Number.POSITIVE_INFINITY];
    if (eat("?")) return [0, 1];
    const match = /^\{(\d*)(,?)(\d*)\}/.exec(source.slice(at, at + 16));
    if (!match || match[0] === "{}" || match[0] === "{,}") return [1, 1];
    at += match[0].length;
    const min = Number(match[1] || "0");
    const max = match[2] === "" ? min : match[3] ? Number(match[3]) : Number.POSITIVE_INFINITY;
    if (min > maxRepeat || (Number.isFinite(max) && max > maxRepeat)) fail(`a count above ${maxRepeat}`);
    if (max < min) fail("a range that ends before it begins");
    return [min, max];
  }

  function atom(): Item {
    const char = source.charAt(at++);
    if (char === "(") return group();
    if (char === "[") return { kind: "char", test: set() };
    if (char === ".") return { kind: "char", test: (c) => c !== "\n" };
    if (char === "^") return { kind: "assert", test: (_, i) => i === 0 };
    if (char === "$") return { kind: "assert", test: (text, i) => i === text.length };
    if (char === "\\") return escapeSequence();
    if ("*+?".includes(char)) fail("nothing to repeat");
    return { kind: "char", test: (c) => c === char };
  }

  function group(): Item {
    let look: boolean | null = null;
    if (eat("?=")) look = false;
    else if (eat("?!")) look = true;
    else if (
      eat("?P<") ||
      (source.startsWith("?<", at) && /^\?<[A-Za-z_]/.test(source.slice(at, at + 3)) && eat("?<"))
    ) {
      const end = source.indexOf(">", at);
      if (end < 0) fail("a group name without an end");
      at = end + 1;
    } else if (!eat("?:") && source.charAt(at) === "?") fail("a kind of group that is not supported");
    const body = choice();
    if (!eat(")")) fail("a group without an end");
    return look === null ? body : { kind: "look", body, negative: look };
  }

  function escapeSequence(): Item {
    const char = source.charAt(at++);
    const lower = classes[char.toLowerCase()];
    if (lower) return { kind: "char", test: char === char.toLowerCase() ? lower : (c) => !lower(c) };
    if (char === "b" || char === "B") {
      const edge = (text: string, i: number): boolean => isWord(text.charAt(i - 1)) !== isWord(text.charAt(i));
      return { kind: "assert", test: char === "b" ? edge : (text, i) => !edge(text, i) };
    }
    if (char === "A") return { kind: "assert", test: (_, i) => i === 0 };
    if (char === "Z") return { kind: "assert", test: (text, i) => i === text.length };
    if (char === "" || /[A-Za-z0-9]/.test(char)) fail(`an escape \\${char} that is not supported`);
    return { kind: "char", test: (c) => c === char };
  }

  function set(): (char: string) => boolean {
    const negative = eat("^");
    const tests: ((char: string) => boolean)[] = [];
    for (let first = true; first || source.charAt(at) !== "]"; first = false) {
      const from = setMember();
      if (typeof from === "function") tests.push(from);
      else if (source.charAt(at) === "-" && !"]".includes(source.charAt(at + 1) || "]")) {
        at++;
        const to = setMember();
        if (typeof to === "function" || to < from) fail("a range that is not one");
        tests.push((c) => c >= from && c <= to);
      } else tests.push((c) => c === from);
    }
    at++;
    return (c) => tests.some((test) => test(c)) !== negative;
  }

  function setMember(): string | ((char: string) => boolean) {
    if (at >= source.length) fail("a class without an end");
    const char = source.charAt(at++);
    if (char !== "\\") return char;
    const escaped = source.charAt(at++);
    const lower = classes[escaped.toLowerCase()];
    if (lower) return escaped === escaped.toLowerCase() ? lower : (c) => !lower(c);
    if (escaped === "" || /[A-Za-z0-9]/.test(escaped)) fail(`an escape \\${escaped} that is not supported`);
    return escaped;
  }
}

/** A module's name as a regular expression for it alone. */
export const patternOfName = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * Compiles a Python-style pattern to a test of whole texts (`re.fullmatch`). Safe for patterns from untrusted files; equal
 * patterns are compiled once.
 * @throws PeftError PATTERN for what is malformed, too long or not supported; when it is used, for what takes too long
 * @example
 * compilePattern(String.raw`.*layer\.(0|1)\..*query`)("bert.encoder.layer.1.attention.self.query"); // true
 */
export function compilePattern(pattern: string): (text: string) => boolean {
  if (pattern.length > maxLength) {
    throw new PeftError(
      "PATTERN",
      `Expected a pattern of at most ${maxLength} characters, received ${pattern.length}.`,
    );
  }
  const known = cache.get(pattern);
  if (known) return known;
  const item = parse(pattern);
  const test = (text: string): boolean => {
    if (text.length > maxText) {
      throw new PeftError("PATTERN", `Expected a name of at most ${maxText} characters, received ${text.length}.`);
    }
    return step(item, text, new Set([0]), { left: maxSteps }).has(text.length);
  };
  cached += pattern.length;
  if (cached > cacheCharacters) {
    cache.clear();
    cached = pattern.length;
  }
  cache.set(pattern, test);
  return test;
}
