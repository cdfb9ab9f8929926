import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Int8Event, quantizeModel, type TrainEvent } from "@onnx-peft/core";
import { afterAll, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { fineTune } from "./fine-tune.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { orders, wordOrderSamples, writeSmallBert } from "./testing/word-order.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-text-int8-"));
const source = { model: writeSmallBert(folder, { hidden_size: 128, intermediate_size: 160, initializer_range: 0.08 }) };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function tune(compute: "float32" | "int8", isolation: "inline" | "process", storage?: "int4") {
  const task = sequenceClassification({ labels: orders });
  const loaded = await loadTextModel(source, task.head);
  const model = storage ? { ...loaded, model: quantizeModel(loaded.model, { type: storage }).model } : loaded;
  const events: TrainEvent[] = [];
  const tuned = await fineTune({
    ...{ model, task, train: wordOrderSamples, validation: wordOrderSamples, compute },
    adapter: { r: 4, alpha: 8, targetModules: "all-linear" },
    options: {
      ...{ epochs: 6, batchSize: 8, isolation, threads: 1, seed: 3 },
      optimizer: { type: "adamw", learningRate: 0.002 },
    },
    onEvent: (event) => events.push(event),
  });
  const metrics = await tuned.evaluate(wordOrderSamples);
  await tuned.close();
  return { tuned, events, metrics };
}

test("training in 8 bits follows training in float32, and the result is a float32 adapter", async () => {
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith("onnx-peft-int8-"));
  const exact = await tune("float32", "inline");
  const rounded = await tune("int8", "inline");
  const [first] = rounded.events;
  expect(first?.type).toBe("int8");
  const { bits, converted, kept, errors } = first as Int8Event;
  expect([7, 8]).toContain(bits);
  expect(kept).toEqual([]);
  // Six linear layers in both blocks and the pooler; the classifier is trained, and stays what it is.
  expect(converted).toHaveLength(13);
  expect(converted).not.toContain("classifier");
  expect(errors.map((e) => e.name)).toEqual([...converted]);
  expect(exact.events.some((e) => e.type === "int8")).toBe(false);
  const [a, b] = [exact.tuned.training.losses, rounded.tuned.training.losses];
  expect(b).not.toEqual(a);
  for (const [i, loss] of a.entries()) expect(Math.abs((b[i] ?? 0) - loss)).toBeLessThan(0.05);
  // Of 24 validation texts one may lie so near a border that rounding decides.
  const accuracyOf = ({ metrics }: typeof exact): number => metrics["accuracy"] ?? Number.NaN;
  expect(accuracyOf(exact)).toBeGreaterThan(0.9);
  expect(Math.abs(accuracyOf(rounded) - accuracyOf(exact))).toBeLessThan(1.5 / 24);
  // The temporary weights are gone.
  const after = readdirSync(tmpdir()).filter((name) => name.startsWith("onnx-peft-int8-"));
  expect(after.filter((name) => !before.includes(name))).toEqual([]);
});

test("a base in 4 bits is computed in 8 as one in float32 is", async () => {
  const [exact, rounded] = [await tune("float32", "inline", "int4"), await tune("int8", "inline", "int4")];
  const { converted, kept } = rounded.events[0] as Int8Event;
  expect(kept).toEqual([]);
  expect(converted).toHaveLength(13);
  for (const [i, loss] of exact.tuned.training.losses.entries())
    expect(Math.abs((rounded.tuned.training.losses[i] ?? 0) - loss)).toBeLessThan(0.05);
});

test("in a process of its own: the same numbers", async () => {
  const [inline, apart] = [await tune("int8", "inline"), await tune("int8", "process")];
  expect(apart.tuned.training.losses).toEqual(inline.tuned.training.losses);
});

test("8 bits are for the CPU: a GPU has no kernel for them", async () => {
  const task = sequenceClassification({ labels: orders });
  const model = await loadTextModel(source, task.head);
  const options = { device: "cuda", optimizer: { type: "adamw", learningRate: 0.002 } } as const;
  const adapter = { r: 4, targetModules: "all-linear" } as const;
  await expect(
    fineTune({ model, task, train: wordOrderSamples, compute: "int8", adapter, options }),
  ).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: expect.stringMatching(/on the device "cuda", received "int8".*CPU only/),
  });
});
