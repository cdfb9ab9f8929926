import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bitfit, full, lnTuning } from "@onnx-peft/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeClassification, encodeEmbedding } from "../data/encode-samples.ts";
import { buildLabelMap } from "../data/label-map.ts";
import { loadTokenizer } from "../data/load-tokenizer.ts";
import { encodeTokenRows } from "../data/tokenize-words.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { type TinyKind, writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { fineTune } from "./fine-tune.ts";
import { openPredictor } from "./predictor.ts";
import { argMax, predictionRows } from "./run-task.ts";
import { sentenceEmbedding } from "./sentence-embedding.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { tokenClassification } from "./token-classification.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-tasks-"));
const folders = {} as Record<TinyKind, string>;
beforeAll(() => {
  for (const kind of ["bert", "distilbert", "roberta"] as const) folders[kind] = writeTinyModel(kind, join(root, kind));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const options = {
  epochs: 12,
  batchSize: 8,
  optimizer: { type: "adamw", learningRate: 0.02 },
  isolation: "inline",
  threads: 1,
} as const;
const adapter = { r: 4, alpha: 8, targetModules: "all-linear" } as const;

/** Twelve texts about dogs or cats, with what different tasks want to know about them. */
const rows = Array.from({ length: 12 }, (_, i) => {
  const animal = i % 2 === 0 ? "dog" : "cat";
  const words = ["the", animal, ...["sat", "the sat", "sat , sat", "."].slice(i % 4, (i % 4) + 1)];
  return { text: words.join(" "), label: animal, long: words.join(" ").length > 11 };
});

const halved = (losses: readonly number[]): boolean => (losses.at(-1) ?? 1) < (losses[0] ?? 0) / 2;

describe("sequence classification", () => {
  test.each(["bert", "distilbert", "roberta"] as const)("one class a text, on %s", async (kind) => {
    const source = { model: folders[kind] };
    const map = buildLabelMap(rows.map((row) => row.label));
    const samples = await encodeClassification(await loadTokenizer(source), rows, map);
    const task = sequenceClassification({ labels: map.labels, labelSmoothing: 0.01, classWeights: [1, 2] });
    const model = await loadTextModel(source, task.head);
    const events: string[] = [];
    const tuned = await fineTune({
      model,
      task,
      train: samples,
      validation: samples.slice(0, 4),
      adapter,
      options: { ...options, evalSteps: 10 },
      onEvent: (event) => events.push(event.type),
    });
    expect(halved(tuned.training.losses)).toBe(true);
    expect(tuned.training.evaluations[0]?.metrics).toHaveProperty("accuracy");
    expect(events).toContain("evaluation");
    expect(await tuned.evaluate(samples)).toEqual({ accuracy: 1, macroF1: 1, microF1: 1, matthews: 1 });
    const rowsOf = predictionRows(await tuned.predict(samples), samples.length);
    expect(rowsOf.map(argMax)).toEqual(samples.map((s) => s.label));
    expect(tuned.trainableParameters).toBe(
      [...tuned.adapter.tensors.values()].reduce((sum, t) => sum + t.data.length, 0),
    );
    // The saved adapter over the base model is the same model; without it nothing was learnt.
    await using again = openPredictor({ model, task, adapter: tuned.adapter, isolation: "inline" });
    expect(await again.evaluate(samples)).toMatchObject({ accuracy: 1 });
    await using untrained = openPredictor({ model, task, isolation: "inline" });
    expect((await untrained.evaluate(samples))["accuracy"]).toBeLessThan(1);
    await tuned.close();
  });

  test("any number of classes", async () => {
    const source = { model: folders.bert };
    const map = buildLabelMap(["cat", "dog", "long"]);
    const multi = rows.map(({ text, label, long }) => ({ text, label: long ? [label, "long"] : [label] }));
    const samples = await encodeClassification(await loadTokenizer(source), multi, map);
    const task = sequenceClassification({ labels: map.labels, problem: "multi" });
    const tuned = await fineTune({
      model: await loadTextModel(source, task.head),
      task,
      train: samples,
      adapter,
      options: { ...options, epochs: 30 },
    });
    expect(halved(tuned.training.losses)).toBe(true);
    expect((await tuned.evaluate(samples))["microF1"]).toBeGreaterThan(0.9);
    await tuned.close();
  });

  test("a number, in a process of its own", async () => {
    const source = { model: folders.bert };
    const numbers = rows.map(({ text, label, long }) => ({
      text,
      label: (label === "dog" ? 1 : -1) + (long ? 0.5 : 0),
    }));
    const samples = await encodeClassification(await loadTokenizer(source), numbers, null);
    const task = sequenceClassification({ labels: ["mood"], problem: "regression" });
    await using tuned = await fineTune({
      model: await loadTextModel(source, task.head),
      task,
      train: samples,
      adapter,
      options: { ...options, epochs: 15, isolation: "process" },
    });
    const metrics = await tuned.evaluate(samples);
    expect(metrics["pearson"]).toBeGreaterThan(0.9);
    expect(metrics["spearman"]).toBeGreaterThan(0.8);
    expect(metrics["meanSquaredError"]).toBeLessThan(0.3);
  });

  test("other methods: a linear probe, biases, norms", async () => {
    const source = { model: folders.bert };
    const map = buildLabelMap(rows.map((row) => row.label));
    const samples = await encodeClassification(await loadTokenizer(source), rows, map);
    const task = sequenceClassification({ labels: map.labels });
    const model = await loadTextModel(source, task.head);
    const counts: number[] = [];
    for (const method of [full, bitfit, lnTuning]) {
      const tuned = await fineTune<(typeof samples)[number], object>({
        model,
        task,
        train: samples,
        method,
        adapter: {},
        options: { ...options, epochs: 2 },
      });
      counts.push(tuned.trainableParameters);
      expect(tuned.adapter.tensors.has("classifier.weight")).toBe(true);
    }
    const head = 16 * 16 + 16 + 16 * 2 + 2;
    expect(counts[0]).toBe(head);
    expect(counts[1]).toBeGreaterThan(head);
    expect(counts[2]).toBe(head + 5 * 32);
  });
});

describe("token classification", () => {
  test("entities, judged whole", async () => {
    const source = { model: folders.bert };
    const tagged = rows.map(({ text }) => {
      const tokens = text.split(" ");
      return {
        tokens,
        tags: tokens.map((word, i) => (/dog|cat/.test(word) ? "I-X" : tokens[i + 1] && i === 0 ? "B-X" : "O")),
      };
    });
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
    expect(halved(tuned.training.losses)).toBe(true);
    expect(await tuned.evaluate(samples)).toEqual({ entityF1: 1, precision: 1, recall: 1, accuracy: 1 });
    await tuned.close();
  });

  test("metrics follow the names of the tags", () => {
    const predicted = [
      { indices: [0], output: { dims: [1, 4, 3], data: Float32Array.of(0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 9) } },
    ];
    const sample = [{ inputIds: Int32Array.of(2, 8, 9, 3), labels: Int32Array.of(-100, 1, 0, -100) }];
    // Predicted are tags 1 and 1, true are 1 and 0; special tokens do not count.
    const score = (labels: string[]) => tokenClassification({ labels }).metrics(sample, predicted);
    expect(score(["NOUN", "VERB", "O"])).toEqual({ accuracy: 0.5 });
    expect(score(["O", "I-X", "I-Y"])).toMatchObject({ entityF1: 0, precision: 0, recall: 0 });
    expect(score(["I-X", "B-X", "O"])).toMatchObject({ entityF1: 0 });
    expect(score(["O", "S-X", "B-X"])).toMatchObject({ precision: 0.5, recall: 1 });
    expect(tokenClassification({ labels: ["O", "B-X"], scheme: null }).mainMetric).toBe("accuracy");
    expect(() => tokenClassification({ labels: ["O", "O"] })).toThrow(/differ/);
  });
});

describe("sentence embedding", () => {
  const texts = ["dog", "cat", "the dog sat", "the cat sat", "dogs , dogs", "cats .", "sat", "a b c"];
  const partner = (text: string): string => [...text].reverse().join("");

  test.each([
    ["multiple-negatives", "recallAt1", 0.9],
    ["triplet", "recallAt10", 1],
    ["cosine", "spearman", 0.8],
  ] as const)("%s", async (objective, metric, expected) => {
    const source = { model: folders.bert };
    const pairs = texts.map((text, i) => ({
      text,
      textPair: partner(text),
      ...(objective === "triplet" ? { textNegative: partner(texts[(i + 1) % texts.length] as string) } : {}),
      label: objective === "cosine" ? (i % 2 === 0 ? 0.9 : -0.2) + i / 100 : undefined,
    }));
    const samples = await encodeEmbedding(await loadTokenizer(source), pairs);
    const task = sentenceEmbedding({ objective });
    const tuned = await fineTune({
      model: await loadTextModel(source, task.head),
      task,
      train: samples,
      adapter,
      options: { ...options, epochs: 40 },
    });
    expect(halved(tuned.training.losses)).toBe(true);
    expect((await tuned.evaluate(samples))[metric]).toBeGreaterThanOrEqual(expected);
    const [row] = predictionRows(await tuned.predict(samples), samples.length);
    expect(Math.hypot(...(row ?? []).slice(0, 16))).toBeCloseTo(1, 5); // anchors have unit length
    await tuned.close();
  });
});

describe("what does not fit is refused before anything runs", () => {
  const text = { inputIds: Int32Array.of(2, 8, 3) };
  const expectProblem = async (work: Promise<unknown>, message: RegExp): Promise<void> => {
    await expect(work).rejects.toMatchObject({ code: "TASK_SAMPLE" });
    await expect(work).rejects.toThrow(message);
  };

  test("labels, lengths, and numbers of texts", async () => {
    const task = sequenceClassification({ labels: ["a", "b"] });
    const model = await loadTextModel({ model: folders.bert }, task.head);
    const run = (train: { inputIds: Int32Array; label: number | number[] }[]) =>
      fineTune({ model, task, train, adapter, options });
    await expectProblem(
      run([
        { ...text, label: 0 },
        { ...text, label: -1 },
        { ...text, label: 2 },
      ]),
      /training sample 1: .* received -1; training sample 2/,
    );
    await expectProblem(run([{ inputIds: new Int32Array(71), label: 0 }]), /it has 71 tokens, and the model takes 70/);
    await expectProblem(run([{ inputIds: new Int32Array(0), label: 0 }]), /it has no tokens/);
    const many = Array.from({ length: 30 }, () => ({ ...text, label: 7 }));
    await expectProblem(run(many), /and 20 more/);
    await expect(run([])).rejects.toMatchObject({ code: "NO_DATA" });
    const validation = fineTune({
      model,
      task,
      train: [{ ...text, label: 0 }],
      validation: [{ ...text, label: 5 }],
      adapter,
      options,
    });
    await expectProblem(validation, /validation sample 0/);
    const unjudged = fineTune({ model, task, train: [{ ...text, label: 0 }], validation: [], adapter, options });
    await expect(unjudged).rejects.toMatchObject({ code: "NO_DATA" });
    const empty = openPredictor({ model, task, isolation: "inline" });
    await expect(empty.evaluate([])).rejects.toMatchObject({ code: "NO_DATA" });
    expect(await empty.predict([])).toEqual([]);
  });

  test("per task", () => {
    const multi = sequenceClassification({ labels: ["a", "b"], problem: "multi" });
    expect(multi.problemOf({ ...text, label: [0, 1] })).toBeNull();
    expect(multi.problemOf({ ...text, label: [1] })).toMatch(/2 zeros and ones/);
    expect(multi.problemOf({ ...text, label: [0, 0.5] })).toMatch(/2 zeros and ones/);
    const number = sequenceClassification({ labels: ["x"], problem: "regression" });
    expect(number.problemOf({ ...text, label: Number.NaN })).toMatch(/expected a number/);
    const tags = tokenClassification({ labels: ["a", "b"] });
    expect(tags.problemOf({ ...text, labels: Int32Array.of(-100, 1, -100) })).toBeNull();
    expect(tags.problemOf({ ...text, labels: Int32Array.of(-1, 1, 0) })).toMatch(/received -1/);
    expect(tags.problemOf({ ...text, labels: Int32Array.of(1) })).toMatch(/3 tokens and 1 labels/);
    const cosine = sentenceEmbedding({ objective: "cosine" });
    expect(cosine.problemOf({ texts: [text, text] })).toMatch(/similarity/);
    expect(cosine.problemOf({ texts: [text] })).toMatch(/expected 2 texts/);
    for (const bad of [
      { labels: ["a"] },
      { labels: ["a", "a"] },
      { labels: ["a", "b"], problem: "regression" as const },
    ]) {
      expect(() => sequenceClassification(bad)).toThrow(expect.objectContaining({ code: "TASK_OPTION" }));
    }
  });
});
