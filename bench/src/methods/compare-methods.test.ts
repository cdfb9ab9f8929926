import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openRunStore } from "../run-store.ts";
import { compareEntry, fullSetting, inParallel, reducedSetting, type StoredRun } from "./compare-methods.ts";
import { writeComparison } from "./comparison-files.ts";
import { entries } from "./entries.ts";
import type { Entry } from "./entry.ts";
import { openGlossTask } from "./gloss-task.ts";
import { type MethodFigures, trainMethod } from "./train-method.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "onnx-peft-compare-"));
});
afterAll(() => rm(folder, { recursive: true }));

const entryOf = (name: string): Entry => entries.find((entry) => entry.name === name)!;

test("the whole chain at reduced size: search, training, merging, table and picture", async () => {
  const store = await openRunStore<StoredRun>(join(folder, "runs.jsonl"));
  const gloss = await openGlossTask(reducedSetting.sizes, 1);
  const open = async () => gloss;
  const chosen = [entryOf("LoRA"), entryOf("BitFit")];
  for (const entry of chosen) {
    const { learningRate, runs } = await compareEntry(
      { setting: reducedSetting, store, open, train: trainMethod },
      entry,
    );
    expect(learningRate).toBe(1e-2);
    expect(runs).toHaveLength(1);
    expect(runs[0]!.mergeError).toBeLessThan(1e-5);
    expect(runs[0]!.diverged).toBeNull();
  }
  const lora = store.get(store.keys().find((key) => key.startsWith("LoRA") && key.includes("test"))!)!;
  expect(lora.parameters).toBe(32_768);
  expect(lora.fileBytes).toBeGreaterThan(4 * 32_768);
  expect(lora.peakBytes).toBeGreaterThan(2e7);

  const comparison = await writeComparison(folder, { setting: reducedSetting, store, open, all: chosen });
  expect(comparison.rows.map(({ name }) => name)).toEqual(["frozen encoder + linear head", "LoRA", "BitFit"]);
  expect(await readFile(join(folder, "methods.md"), "utf8")).toMatch(/\| LoRA \| r 8, alpha 16 \| 0.01 \| [\d.]+ %/);
  expect(await readFile(join(folder, "methods.svg"), "utf8")).toContain(">BitFit</text>");
}, 180_000);

test("what was trained is not trained again, and another config is", async () => {
  const store = await openRunStore<StoredRun>(join(folder, "resumed.jsonl"));
  const trained: string[] = [];
  const figures: MethodFigures = {
    ...{ validationAccuracy: 0.5, testAccuracy: 0.5, losses: [2, 1], parameters: 8, fileBytes: 64, seconds: 1 },
    ...{ peakBytes: null, mergeError: null, diverged: null },
  };
  const runner = {
    ...{ setting: fullSetting, store, open: async () => ({}) as never },
    train: async (_: unknown, { learningRate, seed }: { learningRate: number; seed: number }) => {
      trained.push(`${learningRate} ${seed}`);
      return { ...figures, validationAccuracy: 1 - Math.abs(Math.log10(learningRate) + 2) };
    },
  };
  const first = await compareEntry(runner, entryOf("LoRA"));
  expect(first.learningRate).toBe(1e-2);
  expect(trained).toEqual(["0.001 1", "0.01 1", "0.1 1", "0.003 1", "0.01 1", "0.01 2", "0.01 3"]);
  expect(await compareEntry(runner, entryOf("LoRA"))).toEqual(first);
  expect(trained).toHaveLength(7);
  await compareEntry(runner, { ...entryOf("LoRA"), config: { r: 4 } });
  expect(trained).toHaveLength(14);
});

test("work in parallel keeps its order", async () => {
  let [running, most] = [0, 0];
  const results = await inParallel([30, 10, 20, 5], 2, async (ms) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, ms));
    running--;
    return ms;
  });
  expect(results).toEqual([30, 10, 20, 5]);
  expect(most).toBe(2);
});
