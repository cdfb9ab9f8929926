import { expect, test } from "vitest";
import { broaderDefinitions } from "./broader-definitions.ts";
import { glossClassification, labelledDefinitions } from "./gloss-classification.ts";
import { definitionKey, isHeldOut } from "./held-out.ts";
import { hypernymPairs } from "./hypernym-pairs.ts";
import { pretrainingTexts } from "./pretraining-texts.ts";
import { lexicographerFiles, partsOfSpeech, readSynsets } from "./synsets.ts";

test("all synsets of WordNet 3.1 are read", () => {
  expect(partsOfSpeech.map((pos) => readSynsets(pos).length)).toEqual([82192, 13789, 18185, 3625]);
  expect(lexicographerFiles).toHaveLength(45);
  for (const pos of partsOfSpeech) {
    const synsets = readSynsets(pos);
    expect(new Set(synsets.map((s) => s.id)).size).toBe(synsets.length);
    for (const { lemmas, lexicographerFile, definition } of synsets) {
      // One comparison per synset: expect() is too slow for half a million calls.
      const complete = lemmas.length > 0 && lemmas.every((l) => l !== "" && !/[_()]/.test(l)) && definition !== "";
      if (!complete || !lexicographerFile.startsWith(`${pos}.`))
        expect.fail(`${lemmas.join()} ${lexicographerFile}: ${definition}`);
    }
  }
});

test("fields of a synset, with definition and examples apart", () => {
  expect(readSynsets("noun")[0]).toEqual({
    id: "00001740-n",
    lemmas: ["entity"],
    lexicographerFile: "noun.Tops",
    definition: "that which is perceived or known or inferred to have its own distinct existence (living or nonliving)",
    examples: [],
    hypernyms: [],
  });
  const nouns = new Map(readSynsets("noun").map((s) => [s.id, s]));
  const eaglet = [...nouns.values()].find((s) => s.lemmas.includes("eaglet"));
  expect(eaglet?.hypernyms.map((id) => nouns.get(id)?.lemmas[0])).toEqual(["eagle", "young bird"]);
  const able = readSynsets("adj")[0];
  expect(able).toMatchObject({ lemmas: ["able"], lexicographerFile: "adj.all" });
  expect(able?.definition).toMatch(/^\(usually followed by `to'\) having the necessary means/);
  expect(able?.examples).toEqual([
    "able to swim",
    "she was able to program her computer",
    "we were at last able to buy a car",
    "able to get a grant for the project",
  ]);
});

test("the labelled data: sizes, no definition twice, evaluation held out, same for the same seed", () => {
  const { labels, train, validation, test: held } = glossClassification({ seed: 1 });
  expect(labels).toHaveLength(25);
  expect(labels).not.toContain("noun.Tops");
  expect([train.length, validation.length, held.length]).toEqual([5000, 1000, 8000]);
  const keys = [...train, ...validation, ...held].map((row) => definitionKey(row.text));
  expect(new Set(keys).size).toBe(14000);
  expect(train.some((row) => isHeldOut(row.text))).toBe(false);
  expect([...validation, ...held].every((row) => isHeldOut(row.text))).toBe(true);
  for (const split of [train, validation, held]) {
    expect(new Set(split.map((row) => row.label)).size).toBe(25);
    const animals = split.filter((row) => row.label === "noun.animal").length / split.length;
    expect(animals).toBeCloseTo(7271 / 81510, 2);
  }
  expect(glossClassification({ seed: 1 }).test.slice(0, 50)).toEqual(held.slice(0, 50));
  expect(glossClassification({ seed: 2 }).test.slice(0, 50)).not.toEqual(held.slice(0, 50));
  expect(() => glossClassification({ seed: 1, test: 16000 })).toThrow(
    expect.objectContaining({ code: "SPLIT_INVALID" }),
  );
});

test("a definition under two categories is left out", () => {
  const rows = labelledDefinitions();
  expect(rows).toHaveLength(81510);
  const twice = readSynsets("noun").filter((s) => definitionKey(s.definition) === "a long narrow opening");
  expect(new Set(twice.map((s) => s.lexicographerFile)).size).toBe(2);
  expect(rows.some((row) => definitionKey(row.text) === "a long narrow opening")).toBe(false);
});

test("pre-training texts hold no definition that is held out", () => {
  const texts = pretrainingTexts();
  expect(texts).toHaveLength(94567);
  const definitions = new Set(
    texts.flatMap((text) => (text.includes(": ") ? [definitionKey(text.slice(text.indexOf(": ") + 2))] : [])),
  );
  for (const { text } of glossClassification({ seed: 1 }).test) {
    if (definitions.has(definitionKey(text))) expect.fail(`held out, but in the texts: ${text}`);
  }
  const held = partsOfSpeech.flatMap(readSynsets).filter((s) => isHeldOut(s.definition)).length;
  expect(held / 117791).toBeCloseTo(0.2, 2);
});

test("hypernym pairs: evaluation definitions are held out on both sides, and each broader one is there once", () => {
  const { train, validation, test: held } = hypernymPairs({ seed: 1 });
  expect([train.length, validation.length, held.length]).toEqual([12000, 300, 1000]);
  const sides = (rows: typeof train): string[] => rows.flatMap(({ text, textPair }) => [text, textPair ?? ""]);
  expect(sides(train).some(isHeldOut)).toBe(false);
  expect(sides([...validation, ...held]).every(isHeldOut)).toBe(true);
  expect(new Set([...validation, ...held].map((row) => row.textPair)).size).toBe(1300);
  expect(new Set(held.map((row) => row.text)).size).toBe(1000);
  expect(hypernymPairs({ seed: 1 }).train.slice(0, 20)).toEqual(train.slice(0, 20));
});

test("broader definitions: no definition in two splits, test pairs held out, the broader one in either place", () => {
  const sizes = { train: 6000, validation: 3000, test: 6000 };
  const data = broaderDefinitions({ seed: 1, ...sizes });
  const splits = [data.train, data.validation, data.test];
  expect(splits.map((rows) => rows.length)).toEqual(Object.values(sizes));
  const keys = splits.map((rows) => new Set(rows.flatMap(({ text, textPair }) => [text, textPair].map(definitionKey))));
  expect(keys.reduce((sum, some) => sum + some.size, 0)).toBe(new Set(keys.flatMap((some) => [...some])).size);
  expect(keys.map((some) => [...some].every(isHeldOut))).toEqual([false, false, true]);
  const synsets = readSynsets("noun");
  const byId = new Map(synsets.map((synset) => [synset.id, synset]));
  for (const rows of splits) {
    expect(rows.filter(({ label }) => label === "first")).toHaveLength(rows.length / 2);
  }
  const pairs = data.train
    .slice(0, 200)
    .map((row) => (row.label === "second" ? [row.text, row.textPair] : [row.textPair, row.text]));
  const parents = (some: typeof synsets): typeof synsets =>
    some.flatMap(({ hypernyms }) => hypernyms.flatMap((id) => byId.get(id) ?? []));
  const narrower = new Set(pairs.map(([narrow]) => narrow));
  const above = new Set(
    synsets
      .filter(({ definition }) => narrower.has(definition))
      .flatMap((synset) => {
        const up = parents([synset]);
        return [...up, ...parents(up)].map(({ definition }) => `${synset.definition}\n${definition}`);
      }),
  );
  expect(pairs.filter((pair) => !above.has(pair.join("\n")))).toEqual([]);
  expect(() => broaderDefinitions({ seed: 1, ...sizes, test: 7000 })).toThrow(RangeError);
});
