import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeClassification } from "../data/encode-samples.ts";
import { buildLabelMap } from "../data/label-map.ts";
import { loadTokenizer } from "../data/load-tokenizer.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { sequenceClassification } from "../tasks/sequence-classification.ts";
import { deft } from "./deft.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-deft-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("the same training without and with the penalty, compared", async () => {
  const source = { model: writeTinyModel("bert", join(root, "bert")) };
  const rows = Array.from({ length: 8 }, (_, i) => ({
    text: i % 2 === 0 ? "the dog sat" : "the cat",
    label: i % 2 === 0 ? "dog" : "cat",
  }));
  const map = buildLabelMap(rows.map((row) => row.label));
  const samples = await encodeClassification(await loadTokenizer(source), rows, map);
  const task = sequenceClassification({ labels: map.labels });
  const events: number[] = [];
  const compared = await deft({
    model: await loadTextModel(source, task.head),
    task,
    train: samples,
    validation: samples,
    adapter: { r: 4, targetModules: "all-linear" },
    density: { eps: 0.01, weight: 2 },
    options: {
      epochs: 6,
      batchSize: 8,
      optimizer: { type: "adamw", learningRate: 0.02 },
      isolation: "inline",
      threads: 1,
    },
    onEvent: (event) => {
      if (event.type === "progress") events.push(event.loss);
    },
  });
  const { without, with: sparse, densityChange } = compared;
  expect(densityChange).toBeCloseTo(1 - sparse.density / without.density, 12);
  expect(without.metrics).toHaveProperty("accuracy");
  expect(without.density).toBeGreaterThan(0.5);
  // The first loss of the second training has the penalty in it: at most 2, for no activation is beyond "open".
  expect(events).toHaveLength(12);
  expect((events[6] ?? 0) - (events[0] ?? 0)).toBeGreaterThan(0.2);
  expect((events[6] ?? 0) - (events[0] ?? 0)).toBeLessThan(2);
  expect(sparse.tuned.adapter.tensors).not.toEqual(without.tuned.adapter.tensors);
  await without.tuned.close();
  await sparse.tuned.close();
});
