import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createBuilder,
  encodeSafetensors,
  full,
  injectAdapter,
  lora,
  tensorFrom,
  toFloat32Array,
  toModel,
  writeModel,
} from "@onnx-peft/core";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { fineTune } from "../tasks/fine-tune.ts";
import { padBatch } from "../tasks/pad-batch.ts";
import { sequenceClassification } from "../tasks/sequence-classification.ts";
import { largestDifference, runModel } from "../tasks/testing/run-model.ts";
import { buildEncoder } from "./build-encoder.ts";
import type { Head } from "./encoder.ts";
import { loadTextModel } from "./load-text-model.ts";
import { hidden, tinyConfig, tinyWeights, writeTinyModel } from "./testing/tiny-checkpoint.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-models-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let parent = "";
let count = 0;
beforeEach(() => {
  parent = join(root, String(count++));
});

const classifier: Head = { type: "sequence-classification", labels: 3 };
const texts = [{ inputIds: Int32Array.of(2, 8, 9, 3) }, { inputIds: Int32Array.of(2, 10, 3) }];
const feeds = padBatch(texts, 0);
const withoutTypes = { input_ids: feeds.input_ids, attention_mask: feeds["attention_mask"] as never };
const hiddenStates = async (folder: string): Promise<Float32Array> => {
  const { model } = await loadTextModel({ model: folder }, { type: "none" });
  return (await runModel(model, feeds))["last_hidden_state"]?.data as Float32Array;
};

test("the config's dropout is active in training, and nowhere else", () => {
  const config = { ...tinyConfig("bert"), hidden_dropout_prob: 0.2, attention_probs_dropout_prob: 0.1 };
  const model = buildEncoder(
    config,
    tinyWeights("bert", {
      more: {
        "classifier.weight": [3, hidden],
        "classifier.bias": [3],
        "pooler.dense.weight": [hidden, hidden],
        "pooler.dense.bias": [hidden],
      },
    }),
    classifier,
  );
  const probabilities = (training: boolean): number[] =>
    injectAdapter(model, { method: lora, config: { targetModules: ["query"] }, training }).g.dropoutPlan.sites.map(
      (site) => Number(site.draw),
    );
  // Embeddings; in each of two layers scores, attention and feed-forward; the pooled row before the classifier.
  expect(probabilities(true)).toEqual([0.2, 0.1, 0.2, 0.2, 0.1, 0.2, 0.2, 0.2]);
  expect(probabilities(false)).toEqual([]);
});

describe("checkpoints", () => {
  test("bare, prefixed, with the old names of norms and in shards give the same model", async () => {
    const expected = await hiddenStates(writeTinyModel("bert", join(parent, "a")));
    expect(expected).toHaveLength(2 * 4 * hidden);
    const oldNames = (name: string): string =>
      name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    expect(
      await hiddenStates(writeTinyModel("bert", join(parent, "b"), { prefix: "bert.", rename: oldNames })),
    ).toEqual(expected);
    const sharded = writeTinyModel("bert", join(parent, "c"));
    const [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;
    const weights = [...tinyWeights("bert")];
    writeFileSync(join(sharded, first), encodeSafetensors(weights.slice(0, 9)));
    writeFileSync(join(sharded, second), encodeSafetensors(weights.slice(9)));
    const map = Object.fromEntries(weights.map(([name], i) => [name, i < 9 ? first : second]));
    writeFileSync(join(sharded, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
    rmSync(join(sharded, "model.safetensors"));
    expect(await hiddenStates(sharded)).toEqual(expected);
  });

  test("half precision is widened", async () => {
    const expected = await hiddenStates(writeTinyModel("bert", join(parent, "a")));
    for (const [type, tolerance] of [
      ["float16", 5e-3],
      ["bfloat16", 0.1],
    ] as const) {
      const folder = writeTinyModel("bert", join(parent, type), { type });
      const { model } = await loadTextModel({ model: folder }, { type: "none" });
      expect([...model.graph.initializers.values()].map((t) => t.type)).not.toContain(type);
      const difference = largestDifference(await hiddenStates(folder), expected);
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(tolerance);
    }
  });

  test.each([
    ["bert", "", ["bert.pooler.dense", "classifier"]],
    ["bert", "bert.", ["bert.pooler.dense", "classifier"]],
    ["distilbert", "", ["pre_classifier", "classifier"]],
    ["roberta", "", ["classifier.dense", "classifier.out_proj"]],
  ] as const)("a bare %s with prefix '%s' gets a new head", async (kind, prefix, modules) => {
    const folder = writeTinyModel(kind, parent, { prefix });
    const loaded = await loadTextModel({ model: folder }, classifier, 1);
    expect(loaded.initialized).toEqual(modules);
    expect(loaded).toMatchObject({ folder, name: folder, config: { model_type: kind } });
    const outputs = await runModel(loaded.model, kind === "bert" ? feeds : withoutTypes);
    expect(outputs["logits"]?.dims).toEqual([2, 3]);
    const weight = (m: typeof loaded): Float32Array =>
      toFloat32Array(m.model.graph.initializers.get(`${modules[1]}.weight`) as never);
    const [again, other] = [
      await loadTextModel({ model: folder }, classifier, 1),
      await loadTextModel({ model: folder }, classifier, 2),
    ];
    expect(weight(again)).toEqual(weight(loaded));
    expect(weight(other)).not.toEqual(weight(loaded));
  });

  test("a head that fits is kept, one for other labels is replaced, a pooler is kept", async () => {
    const more = {
      "bert.pooler.dense.weight": [hidden, hidden],
      "bert.pooler.dense.bias": [hidden],
      "classifier.weight": [3, hidden],
      "classifier.bias": [3],
    };
    const folder = writeTinyModel("bert", parent, { prefix: "bert.", more });
    expect((await loadTextModel({ model: folder }, classifier)).initialized).toEqual([]);
    const four = await loadTextModel({ model: folder }, { ...classifier, labels: 4 });
    expect(four.initialized).toEqual(["classifier"]);
    const tags = await loadTextModel({ model: folder }, { type: "token-classification", labels: 3 });
    expect((await runModel(tags.model, feeds))["logits"]?.dims).toEqual([2, 4, 3]);
  });

  test("wrong shapes and missing tensors are listed together", async () => {
    const weights = tinyWeights("bert", { more: { "encoder.layer.1.output.dense.bias": [5] } });
    weights.delete("embeddings.word_embeddings.weight");
    const folder = writeTinyModel("bert", parent);
    writeFileSync(join(folder, "model.safetensors"), encodeSafetensors(weights));
    const loading = loadTextModel({ model: folder }, { type: "none" });
    await expect(loading).rejects.toMatchObject({ code: "CHECKPOINT_MISMATCH" });
    await expect(loading).rejects.toThrow(
      /word_embeddings\.weight" \[96, 16\] is missing.*dense\.bias" is \[5\], expected \[16\]/,
    );
  });

  test("configs that are not built here, or broken, are refused", async () => {
    const folder = writeTinyModel("bert", parent);
    const write = (config: object): void => writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    const code = (expected: string) =>
      expect(loadTextModel({ model: folder }, { type: "none" })).rejects.toMatchObject({ code: expected });
    write({ ...tinyConfig("bert"), model_type: "t5" });
    await code("MODEL_TYPE");
    write({ ...tinyConfig("bert"), num_attention_heads: 3 });
    await code("CONFIG_INVALID");
    writeFileSync(join(folder, "config.json"), "[]");
    await code("CONFIG_INVALID");
    write(tinyConfig("bert"));
    rmSync(join(folder, "model.safetensors"));
    await code("MODEL_NOT_FOUND");
  });
});

describe("ONNX exports", () => {
  const exportTo = async (folder: string, head: Head): Promise<string> => {
    await mkdir(join(folder, "onnx"), { recursive: true });
    writeFileSync(join(folder, "config.json"), JSON.stringify(tinyConfig("distilbert")));
    const more = { "classifier.weight": [3, hidden], "classifier.bias": [3] };
    const model = buildEncoder(
      tinyConfig("distilbert"),
      tinyWeights("distilbert", { prefix: "distilbert.", more }),
      head,
    );
    await writeModel(model, join(folder, "onnx", "model.onnx"));
    return folder;
  };

  test("hidden states get a classifier over the first token, or over every token", async () => {
    const folder = await exportTo(parent, { type: "none" });
    const plain = await loadTextModel({ model: folder }, { type: "none" });
    expect(plain.initialized).toEqual([]);
    const states = (await runModel(plain.model, withoutTypes))["last_hidden_state"]?.data as Float32Array;
    const perText = await loadTextModel({ model: folder }, classifier, 1);
    const perToken = await loadTextModel({ model: folder }, { type: "token-classification", labels: 3 }, 1);
    expect(perText.initialized).toEqual(["classifier"]);
    const scores = (await runModel(perText.model, withoutTypes))["logits"];
    const tokenScores = (await runModel(perToken.model, withoutTypes))["logits"];
    expect([scores?.dims, tokenScores?.dims]).toEqual([
      [2, 3],
      [2, 4, 3],
    ]);
    const weight = toFloat32Array(perText.model.graph.initializers.get("classifier.weight") as never);
    const first = weight.slice(0, hidden).reduce((sum, v, i) => sum + v * (states[i] as number), 0);
    expect(scores?.data[0]).toBeCloseTo(first, 5);
    expect(tokenScores?.data[0]).toBeCloseTo(first, 5);
  });

  test("logits of the right shape are used as they are, others refused", async () => {
    const folder = await exportTo(parent, { type: "token-classification", labels: 3 });
    const load = (head: Head) => loadTextModel({ model: folder }, head);
    expect((await load({ type: "token-classification", labels: 3 })).initialized).toEqual([]);
    for (const head of [classifier, { type: "token-classification", labels: 4 }, { type: "none" }] as Head[]) {
      await expect(load(head)).rejects.toMatchObject({ code: "HEAD_MISMATCH" });
    }
  });

  /** Embeddings, masked: the smallest export that has something to adapt. */
  const smallExport = async (
    folder: string,
    opset: number,
    idType: "int64" | "int32" = "int64",
    mask = "attention_mask",
  ): Promise<string> => {
    await mkdir(join(folder, "onnx"), { recursive: true });
    writeFileSync(join(folder, "config.json"), JSON.stringify({ model_type: "something-new" }));
    const g = createBuilder(opset);
    const shape = ["batch", "sequence"];
    const table = g.initializer(
      "embeddings.weight",
      tensorFrom(
        "float32",
        [20, 4],
        Array.from({ length: 80 }, (_, i) => Math.sin(i)),
      ),
    );
    const words = g.gather(table, g.input("input_ids", idType, shape));
    g.output(g.mul(words, g.unsqueeze(g.cast(g.input(mask, "int64", shape), "float32"), [2])), "last_hidden_state");
    await writeModel(toModel(g.finish({ name: "small" }), opset), join(folder, "onnx", "model.onnx"));
    return folder;
  };

  test.each([11, 13, 17, 21])("an export of opset %i can be given a head and trained", async (opset) => {
    const folder = await smallExport(parent, opset);
    const { model, initialized } = await loadTextModel({ model: folder }, classifier);
    expect(initialized).toEqual(["classifier"]);
    expect((await runModel(model, withoutTypes))["logits"]?.dims).toEqual([2, 3]);
    const tuned = await fineTune({
      model: { model, config: {}, folder, name: folder, initialized },
      task: sequenceClassification({ labels: ["a", "b", "c"] }),
      train: [1, 2, 3].map((id, i) => ({ inputIds: Int32Array.of(id, 4), label: i })),
      method: full,
      adapter: {},
      options: { epochs: 30, optimizer: { type: "adamw", learningRate: 0.1 }, isolation: "inline" },
    });
    expect(tuned.training.losses.at(-1)).toBeLessThan((tuned.training.losses[0] ?? 0) / 2);
    await tuned.close();
  });

  test("the file can be named, and counts before safetensors then", async () => {
    const folder = await smallExport(parent, 17);
    writeFileSync(join(folder, "model.safetensors"), "not read when a file is named");
    await expect(loadTextModel({ model: folder, onnxFile: "onnx/other.onnx" }, classifier)).rejects.toThrow(
      /has no onnx\/other\.onnx/,
    );
    const { initialized } = await loadTextModel({ model: folder, onnxFile: "onnx/model.onnx" }, classifier);
    expect(initialized).toEqual(["classifier"]);
  });

  test("inputs that texts cannot feed are named", async () => {
    const loading = loadTextModel({ model: await smallExport(parent, 17, "int32", "position_ids") }, classifier);
    await expect(loading).rejects.toMatchObject({ code: "MODEL_INPUTS" });
    await expect(loading).rejects.toThrow(
      /"attention_mask" is missing; "input_ids" is int32.*"position_ids" \(int64 \[batch, sequence\]\)/,
    );
  });
});
