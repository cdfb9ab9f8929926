import { expect, test } from "vitest";
import { brownFiles, brownSplit, readBrown } from "./read-brown.ts";
import { coarseTag, coarseTags } from "./tags.ts";
import { baselineAccuracy, wordBaseline } from "./word-baseline.ts";

test("tags in all their forms", () => {
  expect(
    ["nn-tl", "np$", "nn$-tl-hl", "ppss+md", "md*", "fw-in+at-tl", "*", "pp$", "pp$$", "wdt+bez", "--", ".-hl"].map(
      coarseTag,
    ),
  ).toEqual([...["NOUN", "NOUN", "NOUN", "PRON", "VERB", "X", "ADV", "DET", "PRON", "DET", "PUNCT", "PUNCT"]]);
  expect(Object.keys(coarseTags)).toHaveLength(12);
});

test("the corpus has its 500 texts, 1.16 million words, and few words without a tag", () => {
  const files = brownFiles();
  expect(files).toHaveLength(500);
  const rows = files.flatMap(readBrown);
  const words = rows.reduce((sum, { tokens }) => sum + tokens.length, 0);
  expect(words).toBe(1161192);
  expect(rows).toHaveLength(57340);
  const counts = new Map<string, number>();
  for (const { tags } of rows) for (const tag of tags) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  expect((counts.get("X") ?? 0) / words).toBeLessThan(0.003);
  expect(readBrown("ca01")[0]).toEqual({
    tokens:
      "The Fulton County Grand Jury said Friday an investigation of Atlanta's recent primary election produced `` no evidence '' that any irregularities took place .".split(
        " ",
      ),
    tags: "DET NOUN NOUN ADJ NOUN VERB NOUN DET NOUN ADP NOUN ADJ NOUN NOUN VERB PUNCT DET NOUN PUNCT CONJ DET NOUN VERB NOUN PUNCT".split(
      " ",
    ),
  });
});

test("splits are drawn from different texts and do not change", () => {
  const { train, validation, test: held } = brownSplit({ seed: 1, train: 300, validation: 50, test: 100 });
  expect([train.length, validation.length, held.length]).toEqual([300, 50, 100]);
  expect(brownSplit({ seed: 1, train: 10 }).train).toEqual(train.slice(0, 10));
  expect(brownSplit({ seed: 2, train: 10 }).train).not.toEqual(train.slice(0, 10));
});

test("the baseline knows words, then endings", () => {
  const tagOf = wordBaseline([
    {
      tokens: ["the", "dog", "barking", "running", "run", "run", "Run"],
      tags: ["DET", "NOUN", "VERB", "VERB", "NOUN", "VERB", "VERB"],
    },
  ]);
  expect(["The", "run", "singing", "zzz"].map(tagOf)).toEqual(["DET", "VERB", "VERB", "VERB"]);
  const { train, test: held } = brownSplit({ seed: 1 });
  expect(baselineAccuracy(wordBaseline(train), held)).toBeCloseTo(0.9, 1);
});
