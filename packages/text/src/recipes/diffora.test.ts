import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toPeft } from "@onnx-peft/core";
import { afterAll, expect, test } from "vitest";
import { encodeClassification } from "../data/encode-samples.ts";
import { buildLabelMap } from "../data/label-map.ts";
import { loadTokenizer } from "../data/load-tokenizer.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { sequenceClassification } from "../tasks/sequence-classification.ts";
import { diffora } from "./diffora.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-diffora-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("half of the modules are kept, and trained from where the search left them", async () => {
  const source = { model: writeTinyModel("bert", join(root, "bert")) };
  const rows = Array.from({ length: 16 }, (_, i) => ({
    text: i % 2 === 0 ? "the dog sat" : "the cat sat",
    label: i % 2 === 0 ? "dog" : "cat",
  }));
  const map = buildLabelMap(rows.map((row) => row.label));
  const samples = await encodeClassification(await loadTokenizer(source), rows, map);
  const task = sequenceClassification({ labels: map.labels });
  const looks: number[] = [];
  const run = {
    model: await loadTextModel(source, task.head),
    task,
    train: samples,
    search: { r: 4, alpha: 8, searchSteps: 8, evalSteps: 4, gateLearningRate: 0.05 },
    options: {
      ...({ epochs: 10, batchSize: 8, isolation: "inline", threads: 1 } as const),
      optimizer: { type: "adamw", learningRate: 0.02 } as const,
    },
    onSearch: ({ step }: { step: number }) => looks.push(step),
  };
  const { search, tuned } = await diffora(run);
  expect(looks).toEqual([4, 8]);
  expect(search.modules).toHaveLength(12);
  expect(search.selected).toHaveLength(6);
  const { config, tensors } = toPeft(tuned.adapter);
  expect(config).toMatchObject({ peft_type: "LORA", r: 4, target_modules: search.selected, task_type: "SEQ_CLS" });
  const adapted = [...tensors.keys()].filter((name) => name.endsWith("lora_A.weight"));
  expect(adapted.map((name) => name.slice(0, -".lora_A.weight".length)).sort()).toEqual([...search.selected].sort());
  // The head learnt in the search as well: the second stage begins below chance.
  expect(tuned.training.losses[0]).toBeLessThan(0.65);
  expect(await tuned.evaluate(samples)).toMatchObject({ accuracy: 1 });
  await tuned.close();
  const stop = AbortSignal.abort(new Error("enough"));
  await expect(diffora({ ...run, signal: stop })).rejects.toThrow("enough");
});
