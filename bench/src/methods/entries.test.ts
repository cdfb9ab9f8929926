import { listMethods, methodOf, parseAdapterConfig } from "@onnx-peft/core";
import { expect, test } from "vitest";
import { entries, fullFineTuning } from "./entries.ts";
import { asUsual, configOf, settingOf } from "./entry.ts";

test("every registered method is compared", () => {
  const compared = new Set(entries.map(({ type }) => type));
  expect(listMethods().flatMap(({ type }) => (compared.has(type) ? [] : [type]))).toEqual([]);
});

test("names differ, and the first is what the others are measured against", () => {
  const names = [...entries, fullFineTuning].map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names[0]).toBe("LoRA");
});

test.each([...entries, fullFineTuning])("$name has a config that its method takes", (entry) => {
  for (const { type, ...tried } of [entry, asUsual(entry)])
    expect(() => parseAdapterConfig(methodOf(type), configOf({ type, ...tried }) as never)).not.toThrow();
});

test("a setting is what the config says, without the modules that most share", () => {
  const entry = { name: "x", type: "LORA", config: { r: 8, alpha: 16, useDora: true }, loraPlusRatio: 16 };
  expect(settingOf(entry)).toBe("r 8, alpha 16, useDora, ratio 16");
  expect(configOf(entry)).toMatchObject({ targetModules: ["query", "value"] });
  expect(configOf({ name: "y", type: "BITFIT", config: {} })).toEqual({});
});
