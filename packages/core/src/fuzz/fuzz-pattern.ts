import { compilePattern } from "../adapters/pattern.ts";
import { decodeUtf8 } from "../formats/strict-json.ts";
import { mutateWithWords } from "../testing/fuzz/mutate-text.ts";
import type { FuzzTarget } from "../testing/fuzz/target.ts";

const encoder = new TextEncoder();
const words = [
  "(",
  ")",
  "(?:",
  "(?=",
  "(?!",
  "(?P<n>",
  "(?<n>",
  "[",
  "]",
  "[^",
  "-",
  "|",
  "*",
  "+",
  "?",
  "{2}",
  "{0,}",
  "{,3}",
  "{1000}",
  "{999,1000}",
  ".",
  "^",
  "$",
  "\\w",
  "\\D",
  "\\b",
  "\\.",
  "\\",
  "a",
  "query",
  "layer",
  "0",
  "(a*)*",
  "(a|aa)+",
  "(.*)*",
  "é",
  "\u{1F600}",
  "\n",
  "",
];
const names = ["encoder.layer.11.attention.self.query", "a".repeat(200), "", "é.\u{1F600}"];
const seeds = [".*query", String.raw`.*\.layer\.(0|1|11)\..*(query|value)`, "^(?!.*key).*q{2,4}$", String.raw`[\w.]+?`];

/** Patterns of module names: any text is compiled and matched in bounded time, or refused. */
export const patternTarget = (): FuzzTarget => ({
  name: "pattern",
  seeds: seeds.map((text) => encoder.encode(text)),
  mutations: [mutateWithWords(words)],
  codes: new Set(["PATTERN"]),
  run(input) {
    const test = compilePattern(decodeUtf8(input, "the pattern", "PATTERN"));
    for (const name of names) test(name);
  },
});
