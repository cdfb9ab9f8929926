import { expect, test } from "vitest";
import { methodCatalogue } from "../../packages/core/src/methods/catalogue.ts";
import { lora } from "../../packages/core/src/methods/lora.ts";
import { listMethods, methodOf } from "../../packages/core/src/methods/registry.ts";
import { bertCount, methodsPage } from "./methods-page.ts";

test("every registered method has an entry, and every entry a method", () => {
  const types = listMethods().map(({ type }) => type);
  expect(Object.keys(methodCatalogue).sort()).toEqual([...types].sort());
  expect(() => methodsPage([...listMethods(), { ...lora, type: "NEW" }])).toThrow("lacks [NEW]");
  expect(() => methodsPage(listMethods().slice(1))).toThrow("has [LORA]");
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
