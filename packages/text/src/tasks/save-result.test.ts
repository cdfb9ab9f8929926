import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env, pipeline, softmax } from "@huggingface/transformers";
import {
  adapterFeeds,
  createAdapterSet,
  decodeOnnxAdapter,
  fromPeft,
  lora,
  makeSwappable,
  mergeAdapter,
  readPeftFolder,
  toFloat32Array,
} from "@onnx-peft/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeClassification, encodeEmbedding } from "../data/encode-samples.ts";
import { buildLabelMap } from "../data/label-map.ts";
import { loadTokenizer } from "../data/load-tokenizer.ts";
import { encodeTokenRows } from "../data/tokenize-words.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { hidden, type TinyKind, tinyConfig, writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { type FineTuned, fineTune } from "./fine-tune.ts";
import { padBatch } from "./pad-batch.ts";
import { openPredictor } from "./predictor.ts";
import { predictionRows } from "./run-task.ts";
import { saveResult } from "./save-result.ts";
import { sentenceEmbedding } from "./sentence-embedding.ts";
import { type ClassificationSample, sequenceClassification } from "./sequence-classification.ts";
import { largestDifference, runModel } from "./testing/run-model.ts";
import { tokenClassification } from "./token-classification.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-saved-"));
beforeAll(() => {
  env.allowRemoteModels = false;
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const options = {
  epochs: 3,
  optimizer: { type: "adamw", learningRate: 0.02 },
  isolation: "inline",
  threads: 1,
} as const;
const adapter = { r: 4, alpha: 8, targetModules: "all-linear" } as const;
const texts = ["the dog sat", "the cat", "dogs , cats .", "cat"];
const local = { dtype: "fp32", local_files_only: true } as const;

async function classifier(
  kind: TinyKind,
  problem: "single" | "multi",
): Promise<{ tuned: FineTuned<ClassificationSample>; samples: ClassificationSample[] }> {
  const source = { model: writeTinyModel(kind, join(root, kind)) };
  const map = buildLabelMap(["cat", "dog", "other"]);
  const rows = texts.map((text) => ({
    text,
    label: problem === "single" ? (/dog/.test(text) ? "dog" : "cat") : ["cat", "other"],
  }));
  const samples = await encodeClassification(await loadTokenizer(source), rows, map);
  const task = sequenceClassification({ labels: map.labels, problem });
  const tuned = await fineTune({
    model: await loadTextModel(source, task.head),
    task,
    train: samples,
    adapter,
    options,
  });
  return { tuned, samples };
}

describe("merged folders in transformers.js", () => {
  test.each([
    ["bert", "single"],
    ["distilbert", "multi"],
    ["roberta", "single"],
  ] as const)("text-classification: %s, %s", async (kind, problem) => {
    const { tuned, samples } = await classifier(kind, problem);
    const out = join(root, `${kind}-classification`);
    await saveResult(out, tuned);
    const logits = predictionRows(await tuned.predict(samples), samples.length);
    const classify = await pipeline("text-classification", join(out, "merged"), local);
    for (const [i, text] of texts.entries()) {
      const [row] = (await classify([text], { top_k: 3 })) as unknown as { label: string; score: number }[][];
      const own = Array.from(logits[i] ?? []);
      const expected = problem === "single" ? softmax(own) : own.map((v) => 1 / (1 + Math.exp(-v)));
      const scores = ["cat", "dog", "other"].map((name) => row?.find(({ label }) => label === name)?.score ?? -1);
      expect(largestDifference(scores, expected)).toBeLessThan(1e-5);
    }
    await classify.dispose();
    await tuned.close();
  });

  test("token-classification", async () => {
    const source = { model: writeTinyModel("bert", join(root, "tags")) };
    const tagged = texts.map((text) => ({
      tokens: text.split(" "),
      tags: text.split(" ").map((w) => (/dog|cat/.test(w) ? "NOUN" : "X")),
    }));
    const map = buildLabelMap(tagged.map((row) => row.tags));
    const samples = await encodeTokenRows(await loadTokenizer(source), tagged, map);
    const task = tokenClassification({ labels: map.labels });
    const tuned = await fineTune({
      model: await loadTextModel(source, task.head),
      task,
      train: samples,
      adapter,
      options,
    });
    const out = join(root, "tags-result");
    await saveResult(out, tuned);
    const tag = await pipeline("token-classification", join(out, "merged"), local);
    const rows = predictionRows(await tuned.predict(samples), samples.length);
    for (const [i, text] of texts.entries()) {
      for (const { entity, score, index } of await tag(text)) {
        const own = softmax(Array.from(rows[i] ?? []).slice(index * 2, index * 2 + 2));
        expect(score).toBeCloseTo(own[map.labels.indexOf(entity)] ?? -1, 5);
      }
    }
    await tag.dispose();
    await tuned.close();
  });

  test("feature-extraction", async () => {
    const source = { model: writeTinyModel("bert", join(root, "pairs")) };
    const rows = texts.map((text, i) => ({ text, textPair: texts[(i + 1) % 4] as string, label: undefined }));
    const samples = await encodeEmbedding(await loadTokenizer(source), rows);
    const task = sentenceEmbedding({ objective: "multiple-negatives" });
    const tuned = await fineTune({
      model: await loadTextModel(source, task.head),
      task,
      train: samples,
      adapter,
      options,
    });
    const out = join(root, "pairs-result");
    await saveResult(out, tuned);
    const extract = await pipeline("feature-extraction", join(out, "merged"), local);
    const { data, dims } = await extract(texts, { pooling: "mean", normalize: true });
    expect(dims).toEqual([4, hidden]);
    const [{ indices, output } = { indices: [], output: { dims: [], data: new Float32Array() } }] =
      await tuned.predict(samples);
    indices.forEach((index, row) => {
      const anchor = output.data.slice(row * hidden, (row + 1) * hidden); // anchors stand first
      expect(largestDifference(data.slice(index * hidden, (index + 1) * hidden) as Float32Array, anchor)).toBeLessThan(
        1e-5,
      );
    });
    await extract.dispose();
    await tuned.close();
  });
});

test("adapter folder, swappable model and .onnx_adapter give the same logits as the merged model", async () => {
  const { tuned, samples } = await classifier("bert", "single");
  const out = join(root, "swappable-result");
  await saveResult(out, tuned, { baseModelName: "somebody/tiny-bert" });
  const { model, task } = tuned;
  const wanted = predictionRows(await tuned.predict(samples), samples.length).map((row) => Array.from(row));
  const batch = padBatch(samples, 0);
  const order = wanted.flat();

  const read = await readPeftFolder(join(out, "adapter"));
  expect(read.config).toMatchObject({
    peft_type: "LORA",
    task_type: "SEQ_CLS",
    base_model_name_or_path: "somebody/tiny-bert",
    modules_to_save: ["bert.pooler.dense"],
  });
  expect([...read.tensors.keys()]).toEqual(expect.arrayContaining(["classifier.weight", "bert.pooler.dense.bias"]));
  const again = fromPeft(read);
  const reopened = openPredictor({ model, task, adapter: again, isolation: "inline" });
  const rows = predictionRows(await reopened.predict(samples), samples.length);
  expect(
    largestDifference(
      rows.flatMap((row) => Array.from(row)),
      order,
    ),
  ).toBeLessThan(1e-5);
  const merged = await runModel(mergeAdapter(model.model, again), batch);
  expect(largestDifference(merged["logits"]?.data as Float32Array, order)).toBeLessThan(1e-5);

  const path = join(out, "swappable", "onnx", "model.onnx");
  const swappable = makeSwappable(model.model, { method: lora, config: tuned.adapter.config });
  const set = createAdapterSet(swappable);
  set.add("trained", again);
  const adapted = await runModel(path, { ...batch, ...set.feeds() });
  expect(largestDifference(adapted["logits"]?.data as Float32Array, order)).toBeLessThan(1e-5);
  const stored = decodeOnnxAdapter(readFileSync(join(out, "swappable", "adapter.onnx_adapter"))).parameters;
  const fed = Object.fromEntries(
    [...stored].map(([name, t]) => [name, { type: "float32" as const, dims: t.dims, data: toFloat32Array(t) }]),
  );
  expect(Object.keys(fed).sort()).toEqual(Object.keys(adapterFeeds(swappable, again)).sort());
  const fromFile = await runModel(path, { ...batch, ...fed });
  expect(largestDifference(fromFile["logits"]?.data as Float32Array, order)).toBeLessThan(1e-5);
  const without = await runModel(path, { ...batch, ...set.feeds(null) });
  const base = await runModel(model.model, batch);
  expect(largestDifference(without["logits"]?.data as Float32Array, base["logits"]?.data as Float32Array)).toBeLessThan(
    1e-5,
  );
  expect(largestDifference(base["logits"]?.data as Float32Array, order)).toBeGreaterThan(0.01);

  // A second save replaces the first; one that fails leaves it as it was, and nothing half-written beside it.
  const before = readFileSync(join(out, "merged", "onnx", "model.onnx"));
  const broken = new Map(
    [...tuned.adapter.tensors].map(([name, t]) => [name, { ...t, data: t.data.map(() => Number.NaN) }]),
  );
  await expect(saveResult(out, { ...tuned, adapter: { ...tuned.adapter, tensors: broken } })).rejects.toMatchObject({
    code: "MERGE_NOT_FINITE",
  });
  writeFileSync(join(out, "adapter", "notes.txt"), "mine");
  await expect(saveResult(out, tuned)).rejects.toMatchObject({ code: "FOLDER_NOT_REPLACEABLE" });
  rmSync(join(out, "adapter", "notes.txt"));
  expect(readFileSync(join(out, "merged", "onnx", "model.onnx"))).toEqual(before);
  // A tokenizer that cannot be copied: merged/ stays what it was.
  const noFile = writeTinyModel("bert", join(root, "broken-source"));
  rmSync(join(noFile, "tokenizer.json"));
  const { mkdirSync } = await import("node:fs");
  mkdirSync(join(noFile, "tokenizer.json"));
  await expect(saveResult(out, { ...tuned, model: { ...model, folder: noFile } })).rejects.toMatchObject({
    code: "WRITE_FAILED",
  });
  expect(readdirSync(out).sort()).toEqual(["adapter", "merged", "swappable"]);
  expect(existsSync(join(out, "merged", "tokenizer.json"))).toBe(true);
  await saveResult(out, tuned);
  expect(readdirSync(out).sort()).toEqual(["adapter", "merged", "swappable"]);
  await tuned.close();
});

test("config.json of the result says what the file is", async () => {
  const { tuned } = await classifier("bert", "multi");
  const config = {
    ...tinyConfig("bert"),
    architectures: ["BertForMaskedLM"],
    "transformers.js_config": { dtype: "q8" },
    extra: 1,
  };
  const out = join(root, "config-result");
  await saveResult(out, { ...tuned, model: { ...tuned.model, config } });
  const written = JSON.parse(readFileSync(join(out, "merged", "config.json"), "utf8"));
  expect(written).toMatchObject({
    architectures: ["BertForSequenceClassification"],
    problem_type: "multi_label_classification",
    id2label: { 0: "cat", 1: "dog", 2: "other" },
    label2id: { cat: 0, dog: 1, other: 2 },
    extra: 1,
  });
  expect(written).not.toHaveProperty("transformers.js_config");
  const card = readFileSync(join(out, "adapter", "README.md"), "utf8");
  expect(card).toContain('pipeline_tag: "text-classification"');
  expect(card).not.toContain(root);
});
