import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { methodCatalogue } from "../../packages/core/src/methods/catalogue/catalogue.ts";
import { lora } from "../../packages/core/src/methods/lora.ts";
import { listMethods, methodOf } from "../../packages/core/src/methods/registry.ts";
import { aggregateBehaviour, formatBehaviour, parseBehaviour } from "../behaviour/aggregate.ts";
import { behaviourSection, untried } from "./behaviour-table.ts";
import { bertCount, methodsPage } from "./methods-page.ts";

const behaviour = parseBehaviour(readFileSync(new URL("../../docs/behaviour.jsonl", import.meta.url), "utf8"));
const nothing = { behaviour: [], exchange: { adapters: [] } };

test("every registered method has an entry, and every entry a method", () => {
  const types = listMethods().map(({ type }) => type);
  expect(Object.keys(methodCatalogue).sort()).toEqual([...types].sort());
  expect(() => methodsPage([...listMethods(), { ...lora, type: "NEW" }], nothing)).toThrow("lacks [NEW]");
  expect(() => methodsPage(listMethods().slice(1), nothing)).toThrow("has [LORA]");
});

test("the tests tried every registered method", () => {
  const types = listMethods().map(({ type }) => type);
  expect(untried(types, behaviour)).toEqual([]);
  expect(untried([...types, "NEW"], behaviour)).toEqual(["NEW"]);
});

test("checks are counted per method and model; refusals and differences are shown", () => {
  const check = { method: "A", variant: "", ground: "MLP", capability: "merge", result: "yes" } as const;
  const entries = aggregateBehaviour([
    check,
    { ...check, variant: "other" },
    { ...check, capability: "to LoRA" },
    { ...check, ground: "convolution" },
    { ...check, ground: "convolution", capability: "to LoRA", result: "NOT_LORA" },
    { ...check, method: "B", capability: "modules", result: "TARGETS_UNSUITABLE" },
  ]);
  expect(entries.map(({ method, ground, configurations }) => [method, ground, configurations])).toEqual([
    ["A", "MLP", 2],
    ["A", "convolution", 1],
    ["B", "MLP", 0],
  ]);
  expect(parseBehaviour(formatBehaviour(entries))).toEqual(entries);
  const titles = new Map([
    ["A", "First"],
    ["B", "Second"],
  ]);
  const table = behaviourSection(titles, entries).join("\n");
  expect(table).toContain("| First | 2 |  | 1 |  |  | yes; refused on convolution |");
  expect(table).toContain("| Second | refused |  |  |  |  |");
  expect(table).toContain("For all methods: merge;");
});

test("entries are sentences, and titles differ", () => {
  for (const { use, avoid, cost, source } of Object.values(methodCatalogue)) {
    for (const text of [use, avoid, cost, source]) expect(text).toMatch(/^\S[\s\S]{8,}\.$/);
  }
  const titles = Object.values(methodCatalogue).map(({ title }) => title);
  expect(new Set(titles).size).toBe(titles.length);
});

test.each([
  // Twelve layers, two modules of 768 by 768.
  ["LORA", 24 * 8 * (768 + 768)],
  ["VERA", 24 * (256 + 768)],
  ["IA3", 24 * 768],
  ["BITFIT", 24 * 768],
  ["OFT", (24 * 768 * 31) / 2],
  ["LOCA", 24 * 1000],
  ["LN_TUNING", 25 * 2 * 768],
  ["TRAINABLE_TOKENS", 768],
] as const)("trained values of %s at BERT-base", (type, expected) => {
  const entry = methodCatalogue[type];
  expect(entry && bertCount(methodOf(type), entry)).toBe(expected);
});
