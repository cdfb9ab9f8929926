import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PreTrainedTokenizer } from "@huggingface/transformers";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildLabelMap } from "./label-map.ts";
import { loadTokenizer } from "./load-tokenizer.ts";
import { specialTokensOf } from "./special-tokens.ts";
import { tinyTokenizers, writeTinyTokenizer } from "./testing/tiny-tokenizers.ts";
import { encodeRows, longestFirst } from "./tokenize.ts";
import { encodeTokenRows } from "./tokenize-words.ts";

const kinds = Object.keys(tinyTokenizers) as (keyof typeof tinyTokenizers)[];
const folder = mkdtempSync(join(tmpdir(), "tokenizers-"));
const tokenizers = {} as Record<(typeof kinds)[number], PreTrainedTokenizer>;
beforeAll(async () => {
  for (const kind of kinds) tokenizers[kind] = await loadTokenizer({ model: writeTinyTokenizer(kind, folder) });
});
afterAll(() => rmSync(folder, { recursive: true }));

const rows = [
  { text: "the dogs, cat" },
  { text: "dog cat dog dog cat", textPair: "the cat sat on dogs" },
  { text: "a b c d e f", textPair: "a b c d e f" },
  { text: "a b c d e f g", textPair: "a" },
  { text: "a", textPair: "a b c d e f g h i j" },
  { text: "a b c d e f g h", textPair: "a b c d e f g" },
];

/** Hugging Face `tokenizers` (Python) from the same files: rows cut to 9 tokens, then to 12; for BERT with segments. */
const golden: Record<string, readonly string[]> = {
  bert: [
    "2 59 57 49 61 58 3 | 0 0 0 0 0 0 0",
    "2 57 58 57 3 59 58 60 3 | 0 0 0 0 0 1 1 1 1",
    "2 5 6 7 3 5 6 7 3 | 0 0 0 0 0 1 1 1 1",
    "2 5 6 7 8 9 3 5 3 | 0 0 0 0 0 0 0 1 1",
    "2 5 3 5 6 7 8 9 3 | 0 0 0 1 1 1 1 1 1",
    "2 5 6 7 3 5 6 7 3 | 0 0 0 0 0 1 1 1 1",
    "2 59 57 49 61 58 3 | 0 0 0 0 0 0 0",
    "2 57 58 57 57 3 59 58 60 19 44 3 | 0 0 0 0 0 0 1 1 1 1 1 1",
    "2 5 6 7 8 3 5 6 7 8 9 3 | 0 0 0 0 0 0 1 1 1 1 1 1",
    "2 5 6 7 8 9 10 11 3 5 3 | 0 0 0 0 0 0 0 0 0 1 1",
    "2 5 3 5 6 7 8 9 10 11 12 3 | 0 0 0 1 1 1 1 1 1 1 1 1",
    "2 5 6 7 8 9 3 5 6 7 8 3 | 0 0 0 0 0 0 0 1 1 1 1 1",
  ],
  roberta: [
    "0 24 12 9 31 35 23 32 2",
    "0 35 31 2 2 24 12 9 2",
    "0 5 31 2 2 5 31 6 2",
    "0 5 31 6 41 2 2 5 2",
    "0 5 2 2 5 31 6 41 2",
    "0 5 31 6 2 2 5 31 2",
    "0 24 12 9 31 35 23 32 31 40 2",
    "0 35 31 40 31 2 2 24 12 9 31 2",
    "0 5 31 6 41 2 2 5 31 6 41 2",
    "0 5 31 6 41 36 31 9 2 2 5 2",
    "0 5 2 2 5 31 6 41 36 31 9 2",
    "0 5 31 6 41 2 2 5 31 6 41 2",
  ],
  xlmRoberta: [
    "0 36 32 35 30 34 2",
    "0 32 34 2 2 36 34 4 2",
    "0 4 5 2 2 4 5 4 2",
    "0 4 5 4 2 2 4 5 2",
    "0 4 5 2 2 4 5 4 2",
    "0 4 5 4 2 2 4 5 2",
    "0 36 32 35 30 34 2",
    "0 32 34 32 32 2 2 36 34 4 35 2",
    "0 4 5 4 6 2 2 4 5 4 6 2",
    "0 4 5 4 6 4 7 2 2 4 5 2",
    "0 4 5 2 2 4 5 4 6 4 7 2",
    "0 4 5 4 6 2 2 4 5 4 6 2",
  ],
};
/** The same of "dogs sat, dog cat" without special treatment of words. */
const goldenSentence = {
  bert: "2 57 49 60 61 57 58 3",
  roberta: "0 35 23 31 23 39 32 31 35 31 40 2",
  xlmRoberta: "0 32 35 4 35 5 23 30 32 34 2",
};

describe.each(kinds)("%s", (kind) => {
  test("ids, segments and longest_first are those of Hugging Face tokenizers", async () => {
    const tokenizer = tokenizers[kind];
    const encoded = [
      ...(await encodeRows(tokenizer, rows, { maxLength: 9 })),
      ...(await encodeRows(tokenizer, rows, { maxLength: 12 })),
    ];
    const shown = encoded.map(({ inputIds, tokenTypeIds }) =>
      [inputIds, tokenTypeIds].flatMap((ids) => (ids ? ids.join(" ") : [])).join(" | "),
    );
    expect(shown).toEqual(golden[kind]);
  });

  test("words have the tokens of the sentence, labels at their first piece", async () => {
    const tokens = ["dogs", "sat,", "dog", "cat"];
    const tags = ["B-x", "O", "I-x", "O"];
    const map = buildLabelMap(tags);
    const [row] = await encodeTokenRows(tokenizers[kind], [{ tokens, tags }], map);
    expect(row!.inputIds.join(" ")).toBe(goldenSentence[kind]);
    expect([...row!.wordStarts].map((at) => map.labels[row!.labels[at]!])).toEqual(tags);
    expect(row!.labels.filter((label) => label !== -100)).toHaveLength(4);
    expect(row!.labels).toHaveLength(row!.inputIds.length);
    const [cut] = await encodeTokenRows(tokenizers[kind], [{ tokens, tags }], map, { maxLength: 5 });
    expect(cut!.inputIds).toHaveLength(5);
    expect(cut!.inputIds.at(-1)).toBe(row!.inputIds.at(-1)); // the closing token survives
    expect(cut!.wordStarts.every((at) => at < 4)).toBe(true);
  });

  test("property: never longer than maxLength, wrapped, and the whole text when it fits", async () => {
    const tokenizer = tokenizers[kind];
    const text = fc.string({ unit: fc.constantFrom("a", "b", " ", "dog", ",", "é", "\u0001", "一"), maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(
        text,
        fc.option(text, { nil: undefined }),
        fc.integer({ min: 7, max: 40 }),
        async (a, b, maxLength) => {
          fc.pre(b !== ""); // taken for no second text by transformers.js
          const input = b === undefined ? { text: a } : { text: a, textPair: b };
          const [row] = await encodeRows(tokenizer, [input], { maxLength });
          const whole = tokenizer(a, { text_pair: b ?? null, return_tensor: false });
          expect(row!.inputIds.length).toBe(Math.min(maxLength, whole.input_ids.length));
          if (whole.input_ids.length > maxLength) return;
          expect([...row!.inputIds]).toEqual(whole.input_ids);
          if (row!.tokenTypeIds) expect([...row!.tokenTypeIds]).toEqual(whole.token_type_ids);
        },
      ),
    );
  });
});

test("longest_first, by hand", () => {
  expect(longestFirst(3, 4, 7)).toEqual([3, 4]);
  expect(longestFirst(10, 2, 7)).toEqual([5, 2]);
  expect(longestFirst(2, 10, 7)).toEqual([2, 5]);
  expect(longestFirst(8, 9, 7)).toEqual([3, 4]);
  expect(longestFirst(9, 8, 7)).toEqual([4, 3]);
});

test("layout of the special tokens", () => {
  expect(specialTokensOf(tokenizers.bert)).toEqual({
    single: { before: [2], after: [3] },
    pair: { before: [2], between: [3], after: [3], types: [0, 0, 0, 1, 1] },
    hasTypes: true,
  });
  expect(specialTokensOf(tokenizers.roberta).pair?.between).toEqual([2, 2]);
});

test("maxLength comes from the tokenizer's config, at most 512", async () => {
  const text = "a ".repeat(1000);
  const lengths = await Promise.all(
    kinds.map(async (kind) => (await encodeRows(tokenizers[kind], [{ text }]))[0]!.inputIds.length),
  );
  expect(lengths).toEqual([64, 512, 32]);
  for (const maxLength of [0, 2, 4.5, Number.NaN]) {
    await expect(encodeRows(tokenizers.bert, rows, { maxLength })).rejects.toMatchObject({
      code: "MAX_LENGTH_INVALID",
    });
  }
});

test("a word without tokens keeps its label, an unknown tag is an error", async () => {
  const map = buildLabelMap(["O", "B-x"]);
  const [row] = await encodeTokenRows(tokenizers.bert, [{ tokens: ["\u0001", "dog"], tags: ["B-x", "O"] }], map);
  expect([...row!.inputIds]).toEqual([2, 1, 57, 3]);
  expect([...row!.labels]).toEqual([-100, 0, 1, -100]);
  await expect(encodeTokenRows(tokenizers.bert, [{ tokens: ["a"], tags: ["I-y"] }], map)).rejects.toMatchObject({
    code: "LABEL_UNKNOWN",
  });
});

test("the event loop is served every few milliseconds, and an abort stops the work", async () => {
  const many = Array.from({ length: 20_000 }, (_, i) => ({ text: `the dog sat ${i}, the cat sat on dogs` }));
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const started = performance.now();
  await encodeRows(tokenizers.bert, many);
  const elapsed = performance.now() - started;
  clearInterval(timer);
  // Slices of 4 ms: a tenth of the ideal number of turns still fails when the work is done in one go.
  expect(elapsed).toBeGreaterThan(50);
  expect(turns).toBeGreaterThan(elapsed / 50);
  await expect(encodeRows(tokenizers.bert, many, { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({
    name: "TimeoutError",
  });
});

test("missing and broken tokenizers are named", async () => {
  await expect(loadTokenizer({ model: folder })).rejects.toMatchObject({ code: "TOKENIZER_NOT_FOUND" });
  const broken = mkdtempSync(join(folder, "broken-"));
  writeFileSync(join(broken, "tokenizer.json"), "{");
  writeFileSync(join(broken, "tokenizer_config.json"), "{}");
  await expect(loadTokenizer({ model: broken })).rejects.toMatchObject({ code: "TOKENIZER_INVALID" });
});
