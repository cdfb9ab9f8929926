import { describe, expect, test } from "vitest";
import { PeftError } from "../../errors.ts";
import { seededRandom } from "../../testing/fuzz/seeded-random.ts";
import { mutate } from "../testing/mutate.ts";
import { checkAdapterConfig } from "./adapter-config.ts";
import { camelFromSnake, snakeFromCamel } from "./config-case.ts";
import { addPeftPrefix, savedModules, stripPeftPrefix } from "./keys.ts";
import { parseLnTuningConfig } from "./ln-tuning-config.ts";
import { parseLoraConfig } from "./lora-config.ts";

/** All fields that peft 0.21.2 writes for a plain LoRA config. */
const savedByPeft = {
  alora_invocation_tokens: null,
  alpha_pattern: {},
  arrow_config: null,
  auto_mapping: null,
  base_model_name_or_path: null,
  bias: "none",
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  exclude_modules: null,
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  kasa_config: null,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 8,
  lora_bias: false,
  lora_dropout: 0.0,
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: ["classifier", "score"],
  monteclora_config: null,
  peft_type: "LORA",
  peft_version: "0.21.2",
  qalora_group_size: 16,
  r: 2,
  rank_pattern: { q_lin: 4 },
  revision: null,
  target_modules: ["q_lin", "v_lin"],
  target_parameters: null,
  task_type: "SEQ_CLS",
  trainable_token_indices: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
  velora_config: null,
};

describe("case of names", () => {
  test("converts the top level and nothing below it", () => {
    const snake = {
      lora_alpha: 8,
      rank_pattern: { "q_proj.x_y": 4 },
      use_rslora: true,
      r: 1,
      auto_mapping: { a_b: 1 },
    };
    const camel = { loraAlpha: 8, rankPattern: { "q_proj.x_y": 4 }, useRslora: true, r: 1, autoMapping: { a_b: 1 } };
    expect(camelFromSnake(snake)).toEqual(camel);
    expect(snakeFromCamel(camel)).toEqual(snake);
  });

  test("every field of peft comes back as it was", () => {
    expect(snakeFromCamel(camelFromSnake(savedByPeft))).toEqual(savedByPeft);
    expect(Object.keys(camelFromSnake(savedByPeft)).filter((key) => key.includes("_"))).toEqual([]);
  });

  test.each([["loraAlpha"], ["_private"], ["A"]])("%s is no name in a file", (name) => {
    if (name === "_private") expect(camelFromSnake({ [name]: 1 })).toEqual({ _private: 1 });
    else expect(() => camelFromSnake({ [name]: 1 })).toThrow(expect.objectContaining({ code: "CONFIG_FIELD_NAME" }));
  });

  test("lora_alpha is no name in TypeScript", () => {
    expect(() => snakeFromCamel({ lora_alpha: 1 })).toThrow(/"lora_alpha"/);
  });
});

describe("LoRA config", () => {
  test("takes what peft 0.21.2 writes", () => {
    expect(parseLoraConfig(savedByPeft)).toEqual(savedByPeft);
  });

  test("fills in peft's defaults and keeps unknown fields", () => {
    const config = parseLoraConfig({ peft_type: "LORA", rank_pattern: null, added_in_0_30: { x: [1] } });
    expect(config).toMatchObject({ r: 8, lora_alpha: 8, lora_dropout: 0, bias: "none", use_rslora: false });
    expect(config.rank_pattern).toEqual({});
    expect(config.added_in_0_30).toEqual({ x: [1] });
  });

  const list = (length: number): string[] => Array.from({ length }, (_, i) => `m${i}`);
  const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)]);
  const cycle: unknown[] = [];
  cycle.push(cycle);
  test.each<[string, Record<string, unknown>, RegExp]>([
    ["r 0", { r: 0 }, /r: /],
    ["r of a billion", { r: 1e9 }, /r: /],
    ["a fractional r", { r: 1.5 }, /r: /],
    ["r as a text", { r: "8" }, /r: /],
    ["a huge rank pattern", { rank_pattern: { a: 1e9 } }, /rank_pattern\.a: /],
    ["alpha without end", { lora_alpha: Number.POSITIVE_INFINITY }, /lora_alpha: /],
    ["dropout above 1", { lora_dropout: 1.5 }, /lora_dropout: /],
    ["a list of 60,000 modules", { target_modules: list(60_000) }, /target_modules: /],
    ["a list of 200,000 modules", { target_modules: list(200_000) }, /more than 100000 values/],
    ["a module name of 2,000 characters", { target_modules: ["x".repeat(2000)] }, /target_modules/],
    ["a pattern of 1 MB", { target_modules: "x".repeat(1_000_000) }, /target_modules/],
    ["60,000 patterns", { rank_pattern: Object.fromEntries(list(60_000).map((m) => [m, 1])) }, /at most 50000/],
    ["modules that are numbers", { target_modules: [1] }, /target_modules/],
    ["an unknown bias", { bias: "some" }, /bias: /],
    ["an unknown task", { task_type: "MIND_READING" }, /task_type: /],
    ["another method", { peft_type: "LOHA" }, /peft_type: /],
    ["an unknown field with 20 levels", { new_field: deep(20) }, /more than 8 levels/],
    ["an unknown field of 3 MB", { new_field: "x".repeat(3_000_000) }, /characters/],
    ["an unknown field that is a cycle", { new_field: cycle }, /more than 8 levels/],
    ["an unknown field that is a function", { new_field: () => 1 }, /not JSON/],
    ["a prototype", JSON.parse('{"__proto__":{"r":4}}'), /not a field name/],
    ["a prototype below", JSON.parse('{"eva_config":{"__proto__":{"r":4}}}'), /__proto__/],
    ["layers with a pattern", { target_modules: "q|v", layers_to_transform: [1] }, /layers_to_transform: /],
    ["a layer pattern alone", { layers_pattern: ["layers"] }, /layers_pattern: /],
    ["a bias with DoRA", { lora_bias: true, use_dora: true }, /lora_bias: /],
  ])("refuses %s", (_, fields, message) => {
    const error = expect.objectContaining({ code: "PEFT_CONFIG_INVALID", message: expect.stringMatching(message) });
    const hostile = Object.assign(Object.create(null), { peft_type: "LORA" });
    for (const key of Object.keys(fields))
      Object.defineProperty(hostile, key, { value: fields[key], enumerable: true });
    expect(() => parseLoraConfig(hostile)).toThrow(error);
  });

  test("lists all problems", () => {
    expect(() => parseLoraConfig({ peft_type: "LORA", r: 0, bias: "some", lora_dropout: -1 })).toThrow(
      /r: .*lora_dropout: .*bias: /,
    );
  });

  test.each([[null], [[]], ["LORA"], [7]])("%j is no config", (fields) => {
    expect(() => parseLoraConfig(fields)).toThrow(expect.objectContaining({ code: "PEFT_CONFIG_INVALID" }));
  });
});

test("LN tuning takes one module to save as a text", () => {
  const config = parseLnTuningConfig({ peft_type: "LN_TUNING", modules_to_save: "classifier", target_modules: ["ln"] });
  expect(config).toMatchObject({ modules_to_save: ["classifier"], target_modules: ["ln"], task_type: null });
  expect(() => parseLnTuningConfig({ peft_type: "LN_TUNING", target_modules: 3 })).toThrow(/target_modules/);
});

test("a config is checked by its type; unknown types in what all have", () => {
  checkAdapterConfig({ peft_type: "IA3", feedforward_modules: ["x"] }, "test");
  for (const fields of [
    {},
    { peft_type: null },
    { peft_type: "LORA", r: -1 },
    { peft_type: "LN_TUNING", target_modules: 1 },
    { peft_type: "IA3", target_modules: 1 },
  ]) {
    expect(() => checkAdapterConfig(fields, "test")).toThrow(expect.objectContaining({ code: "PEFT_CONFIG_INVALID" }));
  }
});

test("3,000 damaged configs: accepted, or an error of ours", () => {
  const random = seededRandom(3);
  const seed = new TextEncoder().encode(JSON.stringify(savedByPeft));
  let accepted = 0;
  for (let i = 0; i < 3000; i++) {
    let fields: unknown;
    try {
      fields = JSON.parse(Buffer.from(mutate(seed, random)).toString("utf8"));
    } catch {
      continue;
    }
    try {
      parseLoraConfig(fields);
      accepted++;
    } catch (error) {
      if (!PeftError.isInstance(error)) throw error;
    }
  }
  expect(accepted).toBeGreaterThan(30);
});

test("module names to save end with a given text, as in peft, and heads follow from the task", () => {
  const modules = ["distilbert", "distilbert.embeddings", "pre_classifier", "classifier", "dropout"];
  expect(savedModules(modules, { task_type: "SEQ_CLS" })).toEqual(["pre_classifier", "classifier"]);
  expect(savedModules(modules, { modules_to_save: ["embeddings"] })).toEqual(["distilbert.embeddings"]);
  expect(savedModules(modules, { task_type: "constructor", modules_to_save: null })).toEqual([]);
});

test("names without the prefix are refused", () => {
  expect([...stripPeftPrefix(new Map([["base_model.model.a.weight", 1]]), "test")]).toEqual([["a.weight", 1]]);
  const odd = new Map([
    ["lora_embeddings", 1],
    ["base_model.model.", 2],
  ]);
  expect(() => stripPeftPrefix(odd, "test")).toThrow(/"lora_embeddings", "base_model\.model\." \(2 in all\)/);
});

test("prompt methods do not wrap the model: their tensors stand alone, and the prefix of others is shorter", () => {
  const file = new Map([
    ["prompt_embeddings", 1],
    ["base_model.classifier.weight", 2],
  ]);
  const names = stripPeftPrefix(file, "test");
  expect([...names.keys()]).toEqual(["prompt_embeddings", "classifier.weight"]);
  expect(addPeftPrefix(names)).toEqual(file);
  expect(() => stripPeftPrefix(new Map([...file, ["classifier.bias", 3]]), "test")).toThrow(
    /"classifier.bias" \(1 in all\)/,
  );
});
