import fc from "fast-check";
import { expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { compilePattern } from "./pattern.ts";

const query = "bert.encoder.layer.11.attention.self.query";

test.each([
  [".*query", true],
  ["query", false],
  [String.raw`.*\.layer\.(0|1|11)\..*(query|value)`, true],
  [String.raw`.*\.layer\.(0|1)\..*`, false],
  ["^(?!.*key).*query$", true],
  ["^(?!.*self).*query$", false],
  [String.raw`(?=bert).*\.(?P<which>query|key)`, true],
  [String.raw`bert\.\w+\.layer\.\d{2}\.[a-z]+\.[^.]+\.q.{2,4}`, true],
  [String.raw`bert\.\w+\.layer\.\d{3,}\..*`, false],
  [String.raw`[\w.]+?`, true],
  [String.raw`\bbert\b.*`, true],
  ["(?:(a|b)*|.*)", true],
])("%s: %s", (pattern, expected) => {
  expect(compilePattern(pattern)(query)).toBe(expected);
  expect(new RegExp(`^(?:${pattern.replace("?P<", "?<")})$`).test(query)).toBe(expected);
});

test.each([
  "(a+)+b",
  "(a|aa)+b",
  "((a*)*)*b",
  "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
  "((a?){1000}){1000}b",
  "(a*a*a*)*b",
])("%s does not explode", (pattern) => {
  // A backtracking engine would run into the time limit of the test, and for years beyond it.
  expect(compilePattern(pattern)("a".repeat(500))).toBe(false);
});

test.each([
  "(a",
  "a)",
  "[a",
  "*a",
  "a**",
  "(?i)a",
  String.raw`(a)\1`,
  "a{2000}",
  "a{3,2}",
  "(?<=a)b",
  "(((((a*)*)*)*)*)",
  "((((((((((",
  "a".repeat(40_000),
])("%s is refused", (pattern) => {
  expect(() => compilePattern(pattern)).toThrow(PeftError);
});

const long = "a".repeat(1024);
test.each([
  ["a look-ahead for every position", "((?!.*b).)*", 2900],
  ["choices", "(a*|a*|a*|a*|a*|a*)*", 1500],
  ["repetitions", "a*", 16_000],
  ["counts", "((a|aa){500,1000}){500,1000}", 1000],
])("a pattern of many %s is stopped", (_, part, times) => {
  expect(() => compilePattern(part.repeat(times))(long)).toThrow(expect.objectContaining({ code: "PATTERN" }));
});

test("a list of 500 whole names behind .* is not stopped", () => {
  const name = (i: number): string => `model.vision_tower.encoder.layers.${i}.self_attn.query_key_value`;
  const pattern = `.*(${Array.from({ length: 500 }, (_, i) => name(i)).join("|")})`;
  expect(compilePattern(pattern)(`base_model.model.${name(499)}`)).toBe(true);
});

test("random patterns answer as the regular expressions of the language do", () => {
  const atom = fc.oneof(
    fc.constantFrom("a", "b", ".", "\\w", "\\d", "\\.", "[ab]", "[^a]", "[a-c0]", "1"),
    fc.constantFrom("^", "$", "\\b"),
  );
  const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
    pattern: fc.oneof(
      { maxDepth: 3 },
      atom,
      fc.array(tie("pattern"), { minLength: 1, maxLength: 4 }).map((parts) => parts.join("")),
      fc.tuple(tie("pattern"), tie("pattern")).map(([x, y]) => `(${x}|${y})`),
      fc
        .tuple(tie("pattern"), fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{0,}"))
        .map(([x, count]) => `(?:${x})${count}`),
      fc.tuple(fc.constantFrom("?=", "?!"), atom).map(([look, x]) => `(${look}${x})`),
    ),
  }));
  const name = fc.string({ unit: fc.constantFrom("a", "b", "c", ".", "1", "_"), maxLength: 8 });
  fc.assert(
    fc.property(pattern, fc.array(name, { minLength: 5, maxLength: 5 }), (source, names) => {
      let test: (text: string) => boolean;
      try {
        test = compilePattern(source);
      } catch {
        return; // nested deeper than is allowed
      }
      for (const text of names)
        expect(test(text), `${source} on "${text}"`).toBe(new RegExp(`^(?:${source})$`).test(text));
    }),
    { numRuns: 500 },
  );
});
