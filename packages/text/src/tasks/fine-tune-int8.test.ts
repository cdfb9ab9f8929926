import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRandom, encodeSafetensors, type Int8Event, quantizeModel, type TrainEvent } from "@onnx-peft/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { initialBertWeights } from "../models/initial-weights.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { fineTune } from "./fine-tune.ts";
import { sequenceClassification } from "./sequence-classification.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-text-int8-"));
const config = {
  ...{ model_type: "bert", vocab_size: 60, hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ intermediate_size: 160, max_position_embeddings: 16, type_vocab_size: 2, initializer_range: 0.08 },
};
beforeAll(() => {
  mkdirSync(join(folder, "model"));
  writeFileSync(join(folder, "model", "config.json"), JSON.stringify(config));
  const weights = initialBertWeights(config, createRandom(4), 2);
  writeFileSync(join(folder, "model", "model.safetensors"), encodeSafetensors(weights, { format: "pt" }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Which of two words comes first. */
const samples = Array.from({ length: 24 }, (_, i) => {
  const words = i % 2 === 0 ? [7, 9] : [9, 7];
  const filler = Array.from({ length: i % 5 }, (__, k) => 20 + ((i * 7 + k * 3) % 30));
  return { inputIds: Int32Array.of(1, ...words, ...filler, 2), label: i % 2 };
});

async function tune(compute: "float32" | "int8", isolation: "inline" | "process", storage?: "int4") {
  const task = sequenceClassification({ labels: ["ab", "ba"] });
  const loaded = await loadTextModel({ model: join(folder, "model") }, task.head);
  const model = storage ? { ...loaded, model: quantizeModel(loaded.model, { type: storage }).model } : loaded;
  const events: TrainEvent[] = [];
  const tuned = await fineTune({
    ...{ model, task, train: samples, validation: samples, compute },
    adapter: { r: 4, alpha: 8, targetModules: "all-linear" },
    options: {
      ...{ epochs: 6, batchSize: 8, isolation, threads: 1, seed: 3 },
      optimizer: { type: "adamw", learningRate: 0.002 },
    },
    onEvent: (event) => events.push(event),
  });
  const metrics = await tuned.evaluate(samples);
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
  const task = sequenceClassification({ labels: ["ab", "ba"] });
  const model = await loadTextModel({ model: join(folder, "model") }, task.head);
  const options = { device: "cuda", optimizer: { type: "adamw", learningRate: 0.002 } } as const;
  const adapter = { r: 4, targetModules: "all-linear" } as const;
  await expect(fineTune({ model, task, train: samples, compute: "int8", adapter, options })).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: expect.stringMatching(/on the device "cuda", received "int8".*CPU only/),
  });
});
