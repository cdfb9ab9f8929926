import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { poly, polyTask } from "@onnx-peft/core";
import { afterAll, expect, test } from "vitest";
import { encodeClassification } from "../data/encode-samples.ts";
import { buildLabelMap } from "../data/label-map.ts";
import { loadTokenizer } from "../data/load-tokenizer.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { fineTune } from "./fine-tune.ts";
import { openPredictor } from "./predictor.ts";
import { argMax, predictionRows } from "./run-task.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { withTaskIds } from "./with-task-ids.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-task-ids-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("two tasks with opposite labels for the same texts are learnt together, and apart as LoRA", async () => {
  const source = { model: writeTinyModel("bert", join(root, "bert")) };
  const texts = ["the dog", "the cat", "dog sat .", "cat sat .", "the dog sat", "the cat sat"];
  const rows = [0, 1].flatMap((taskId) =>
    texts.map((text) => ({ text, label: text.includes("dog") === (taskId === 0) ? "yes" : "no", taskId })),
  );
  const map = buildLabelMap(rows.map((row) => row.label));
  const encoded = await encodeClassification(await loadTokenizer(source), rows, map);
  const samples = encoded.map((sample, i) => ({ ...sample, taskId: rows[i]!.taskId }));
  const plain = sequenceClassification({ labels: map.labels });
  const task = withTaskIds<(typeof samples)[number]>(plain, (sample) => sample.taskId);
  const model = await loadTextModel(source, plain.head);
  const tuned = await fineTune({
    ...{ model, task, train: samples, method: poly },
    adapter: { r: 4, nTasks: 2, nSkills: 2, targetModules: "all-linear" },
    options: {
      ...{ epochs: 40, batchSize: 12, isolation: "inline", threads: 1 },
      optimizer: { type: "adamw", learningRate: 0.03 },
    },
    // Shares have far to go from nearly even.
    groups: (names) => [{ names: names.filter((n) => n.includes("poly_router")), learningRate: 0.3, weightDecay: 0 }],
  });
  expect(await tuned.evaluate(samples)).toMatchObject({ accuracy: 1 });
  const { adapter } = tuned;
  await tuned.close();
  for (const taskId of [0, 1]) {
    const own = samples.filter((sample) => sample.taskId === taskId);
    await using one = openPredictor({ model, task: plain, adapter: polyTask(adapter, taskId), threads: 1 });
    const found = predictionRows(await one.predict(own), own.length).map(argMax);
    expect(found).toEqual(own.map((sample) => sample.label));
  }
});
