import { isDeepStrictEqual } from "node:util";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import type { Site } from "../adapters/site.ts";
import { targetSites } from "../adapters/targets.ts";
import { checkAdapterConfig } from "../formats/peft/adapter-config.ts";
import { decodeUtf8, parseStrictJson, plainJson } from "../formats/strict-json.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { mutateJson } from "../testing/fuzz/mutate-text.ts";
import { type FuzzTarget, promise } from "../testing/fuzz/target.ts";

const encoder = new TextEncoder();

const seeds = [
  {
    peft_type: "LORA",
    r: 4,
    lora_alpha: 8,
    lora_dropout: 0.1,
    target_modules: ["query", "value"],
    exclude_modules: ["pooler"],
    rank_pattern: { "layer.0.query": 2 },
    alpha_pattern: { "^layer.*value$": 16 },
    layers_to_transform: [0, 1],
    layers_pattern: "layer",
    bias: "none",
    task_type: "SEQ_CLS",
    use_rslora: false,
    unknown_field: { deep: [[1], { x: null }] },
  },
  { peft_type: "LORA", target_modules: ".*\\.(query|value)", modules_to_save: ["classifier"], init_lora_weights: true },
  { peft_type: "LN_TUNING", target_modules: ["norm"], inference_mode: true },
  { peft_type: "IA3", target_modules: "all-linear", feedforward_modules: [] },
];

const site = (name: string): Site => ({
  name,
  kind: name.includes("norm") ? "norm" : "linear",
  inFeatures: 4,
  outFeatures: 4,
  weightShape: [4, 4],
  hasBias: true,
  weight: `${name}.weight`,
  weightLayout: "out_in",
  fanInFanOut: false,
  input: `${name}.in`,
  output: `${name}.out`,
  uses: [],
  nameSource: "weight",
});

const sites = ["encoder.layer.0.query", "encoder.layer.1.value", "encoder.norm", "pooler.dense", "classifier"].map(
  site,
);

/** What is behind a file: its config, and one tensor. */
const tensors = new Map([["encoder.layer.0.query.lora_A.weight", tensorFrom("float32", [1, 4], [1, 2, 3, 4])]]);

/** Adapter configs: the schema, the choice of modules with its patterns, and the way back into a file. */
export const peftTarget = (): FuzzTarget => ({
  name: "peft",
  seeds: seeds.map((config) => encoder.encode(JSON.stringify(config))),
  mutations: [mutateJson],
  codes: new Set([
    "PEFT_CONFIG_INVALID",
    "CONFIG_INVALID",
    "CONFIG_FIELD_NAME",
    "UNKNOWN_METHOD",
    "PEFT_OPTION",
    "TARGETS_NOT_FOUND",
    "PATTERN",
  ]),
  run(input) {
    const text = decodeUtf8(input, "the input", "PEFT_CONFIG_INVALID");
    const config = plainJson(parseStrictJson(text, { where: "the input", code: "PEFT_CONFIG_INVALID" }));
    checkAdapterConfig(config, "the input");
    const adapter = fromPeft({ config: config as Record<string, unknown>, tensors });
    const written = toPeft(adapter);
    checkAdapterConfig(written.config, "the written config");
    promise(isDeepStrictEqual(toPeft(fromPeft(written)), written), "an adapter that was read is written differently");
    targetSites(sites, adapter.config);
  },
});
