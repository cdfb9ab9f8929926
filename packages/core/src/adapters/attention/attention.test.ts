import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import { methodOf } from "../../methods/registry.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import { readModel } from "../../onnx/read.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { encodeModel } from "../../onnx/write.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../../runtime/runtime.ts";
import { applyAdapter } from "../apply-adapter.ts";
import { injectAdapter } from "../inject.ts";
import type { AdapterConfigInput } from "../select.ts";
import { findSites } from "../sites.ts";
import { adapterFeeds, makeSwappable } from "../swappable.ts";
import { movedAdapter } from "../testing/moved-adapter.ts";
import { tinyModel } from "../testing/tiny-model.ts";
import { findTokens } from "../tokens/find-tokens.ts";
import { findAttention } from "./find-attention.ts";
import { findPositions } from "./find-positions.ts";

const golden = fileURLToPath(new URL("../../../../../parity/golden", import.meta.url));
const open = async (file: string): Promise<Model> => prepareModel(await readModel(join(golden, file)));

/** The same model as exporters and optimisers write it: name of the first block, heads that share keys, positions that are used. */
const files = [
  ["models/bert/onnx/model_torchscript.onnx", "bert.encoder.layer.0.attention.self", 4, 1],
  ["models/bert/onnx/model_dynamo.onnx", "bert.encoder.layer.0.attention.self", 4, 1],
  ["models/bert/onnx/model_optimized.onnx", "bert.encoder.layer.0.attention.self", 4, 1],
  ["models/distilbert/onnx/model_optimized.onnx", "distilbert.transformer.layer.0.attention", 4, 1],
  ["models/roberta/onnx/model_dynamo.onnx", "roberta.encoder.layer.0.attention.self", 4, 1],
  ["models/gpt2/onnx/model_torchscript.onnx", "transformer.h.0.attn", 4, 1],
  ["models/gpt2/onnx/model_optimized.onnx", "transformer.h.0.attn", 4, 1],
  ["models/llama/onnx/model_dynamo.onnx", "model.layers.0.self_attn", 2, 1],
  ["models/llama/genai/model_genai_packed.onnx", "model.layers.0.self_attn", 2, 4],
  ["exports/t5-encoder/model_torchscript17.onnx", "encoder.block.0.layer.0.SelfAttention", 4, 0],
  ["exports/vit/model_dynamo.onnx", "vit.layers.0.attention", 4, 0],
] as const;

test.each(files)("%s", async (file, name, keyHeads, positions) => {
  const model = await open(file);
  const blocks = findAttention(model, findSites(model));
  expect(blocks.length).toBe(2);
  expect(blocks[0]).toMatchObject({ name, kind: "attention", inFeatures: 8 * keyHeads });
  const packed = /gpt2/.test(file);
  const sizes = { heads: 4, keyHeads, keyWidth: 8, valueWidth: 8, hidden: 32, crosses: false };
  expect(blocks[0]?.attention).toEqual({ ...sizes, isPacked: packed, hasOutput: true });
  expect(blocks[0]?.block?.key?.slice).toEqual(packed ? { start: 32, size: 32, total: 96 } : null);
  expect(findPositions(model).length).toBe(positions);
});

test("a file with more ways to a value than can be walked is looked at all the same", () => {
  const g = createBuilder(17);
  const [q, k] = [g.input("q", "float32", [1, 2, "n", 4]), g.input("k", "float32", [1, 2, 4, "n"])];
  let [scores, index] = [g.matMul(q, k), g.cast(g.input("counts", "int32", ["n"]), "int64")];
  for (let level = 0; level < 30; level++) {
    scores = g.op("Max", [scores, scores, scores, scores])[0] as Value;
    index = g.op("Max", [index, index, index, index])[0] as Value;
  }
  const table = g.initializer("table", tensorFrom("float32", [3, 2], [1, 2, 3, 4, 5, 6]));
  g.output(g.gather(table, index), "rows");
  g.output(g.matMul(g.softmax(scores), g.input("v", "float32", [1, 2, "n", 4])), "y");
  const model = toModel(g.finish(), 17);
  expect(findAttention(model, [])).toEqual([]);
  expect(findPositions(model)).toEqual([]);
});

test("attention of another sequence is told apart", async () => {
  const model = await open("exports/t5/model_dynamo.onnx");
  const crossing = findAttention(model, findSites(model)).map((site) => site.attention?.crosses);
  expect(crossing).toEqual([false, false, false, true, false, true]);
});

test("what cannot be adapted is refused with its reason", async () => {
  const inject = (model: Model, type: string, config: object) => () =>
    injectAdapter(model, { method: methodOf(type), config: config as AdapterConfigInput });
  const because = (code: string, text: string) =>
    expect.objectContaining({ code, message: expect.stringContaining(text) });
  const t5 = await open("exports/t5/model_torchscript17.onnx");
  const prompt = { numVirtualTokens: 2 };
  expect(inject(t5, "PREFIX_TUNING", prompt)).toThrow(because("TARGETS_UNSUITABLE", "another sequence"));
  expect(inject(t5, "PROMPT_TUNING", prompt)).toThrow(because("TARGETS_UNSUITABLE", "more than one sequence"));
  const bert = await open("models/bert/onnx/model_dynamo.onnx");
  expect(inject(bert, "PREFIX_TUNING", { ...prompt, targetModules: ["self"] })).toThrow(
    because("TARGETS_INVALID", "targetModules"),
  );
  const inputs = bert.graph.inputs.map((input) => ({ ...input, shape: [2, 16] }));
  const fixed = { ...bert, graph: { ...bert.graph, inputs } };
  expect(inject(fixed, "PROMPT_TUNING", prompt)).toThrow(because("TARGETS_UNSUITABLE", "sequences of 16 tokens only"));
  const resnet = await open("exports/resnet/model_dynamo.onnx");
  expect(inject(resnet, "PREFIX_TUNING", prompt)).toThrow(because("TARGETS_NOT_FOUND", "attention"));
  expect(inject(resnet, "PROMPT_TUNING", prompt)).toThrow(because("TARGETS_NOT_FOUND", "tokens"));
});

test("a virtual token is none that the model compares ids with", async () => {
  const tokenOf = async (file: string) => {
    const model = await open(file);
    return findTokens(model, findSites(model))[0]?.sequence?.inputs.map(({ name, fill, token }) => [name, fill, token]);
  };
  // RoBERTa counts positions by "is not 1", its padding.
  expect(await tokenOf("models/roberta/onnx/model_torchscript.onnx")).toEqual([
    ["input_ids", "token", 0],
    ["attention_mask", "one", undefined],
  ]);
  expect(await tokenOf("models/bert/onnx/model_dynamo.onnx")).toEqual([
    ["input_ids", "token", 0],
    ["attention_mask", "one", undefined],
    ["token_type_ids", "zero", undefined],
  ]);
});

const ids = (rows: number, tokens: number): RuntimeTensor => ({
  type: "int64",
  dims: [rows, tokens],
  data: BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt(3 + ((i * 7) % 100))),
});

async function run(model: Model, feeds: Feeds): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const given = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!]));
  const { logits } = await session.run(given, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
}

const distance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

describe("grouped heads stacked as rows of one product", () => {
  test.each([
    ["PREFIX_TUNING", { numVirtualTokens: 3 }],
    ["ADAPTION_PROMPT", { adapterLen: 3 }],
    ["PROMPT_TUNING", { numVirtualTokens: 3 }],
  ])("%s: the GenAI builder's file equals the export that repeats them", async (type, config) => {
    const plain = await open("models/llama/onnx/model_torchscript.onnx");
    const adapter = movedAdapter(plain, type, config, 5);
    const mask: RuntimeTensor = { type: "int64", dims: [2, 6], data: new BigInt64Array(12).fill(1n) };
    const past = [0, 1].flatMap((i) => ["key", "value"].map((part) => `past_key_values.${i}.${part}`));
    const empty: RuntimeTensor = { type: "float32", dims: [2, 2, 0, 8], data: new Float32Array() };
    const feeds = {
      input_ids: ids(2, 6),
      attention_mask: mask,
      ...Object.fromEntries(past.map((name) => [name, empty])),
    };
    const expected = await run(applyAdapter(plain, adapter), feeds);
    for (const file of ["model_genai.onnx", "model_genai_packed.onnx"]) {
      const found = await run(applyAdapter(await open(`models/llama/genai/${file}`), adapter), feeds);
      expect(found.length).toBe(expected.length);
      expect(distance(found, expected)).toBeLessThan(2e-5);
    }
    expect(distance(await run(plain, feeds), expected)).toBeGreaterThan(1e-2);
  });
});

test.each([
  ["PREFIX_TUNING", { numVirtualTokens: 3, prefixProjection: true, encoderHiddenSize: 4 }],
  ["PROMPT_TUNING", { numVirtualTokens: 3 }],
  ["ADAPTION_PROMPT", { adapterLen: 3 }],
])("%s: embedded in the model it is what is fed, of any number of tokens in one session", async (type, config) => {
  const model = tinyModel();
  const swappable = makeSwappable(model, { method: methodOf(type), config: config as AdapterConfigInput });
  const longer = Object.fromEntries(Object.entries(config).map(([key, v]) => [key, /Tokens|Len/.test(key) ? 5 : v]));
  for (const own of [config, longer]) {
    const adapter = movedAdapter(model, type, own, 4);
    const input = { input_ids: { ...ids(2, 4), data: BigInt64Array.from([1, 2, 3, 4, 5, 6, 7, 8], BigInt) } };
    const fed = await run(swappable.model, { ...input, ...adapterFeeds(swappable, adapter) });
    expect(distance(await run(applyAdapter(model, adapter), input), fed)).toBeLessThan(1e-6);
  }
});
