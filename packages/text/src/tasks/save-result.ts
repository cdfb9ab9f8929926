import { existsSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Adapter,
  adapterFeeds,
  applyAdapter,
  atomicWriteFolder,
  declared,
  encodeOnnxAdapter,
  makeSwappable,
  methodOf,
  type PeftCard,
  tensorFrom,
  toPeft,
  writeModel,
  writePeftFolder,
} from "@onnx-peft/core";
import type { TextModel } from "../models/load-text-model.ts";
import { peftTaskTypes } from "./fine-tune.ts";
import type { TextTask } from "./task.ts";

/** Files that a tokenizer consists of; those that the model has are copied. */
const tokenizerFiles = [
  ...["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
  ...["vocab.txt", "vocab.json", "merges.txt"],
];

const pipelineTags = {
  "sequence-classification": "text-classification",
  "token-classification": "token-classification",
  "sentence-embedding": "feature-extraction",
} as const;
const architectureSuffix = {
  "sequence-classification": "ForSequenceClassification",
  "token-classification": "ForTokenClassification",
  "sentence-embedding": "Model",
} as const;

/** What there is to save: a {@link FineTuned}, or the parts of one. */
export interface SavedResult<Sample> {
  readonly model: TextModel;
  readonly task: TextTask<Sample>;
  readonly adapter: Adapter;
}

export interface SaveOptions {
  /** For the adapter's card. */
  readonly card?: PeftCard;
  /** Name under which the card and peft find the base model; default what it was loaded by, if that is a hub id. */
  readonly baseModelName?: string;
}

/**
 * Writes a result folder:
 * - `adapter/`: for Hugging Face peft (adapter_config.json, adapter_model.safetensors, README.md);
 * - `merged/`: a model folder for transformers.js (config.json, tokenizer, onnx/model.onnx with the adapter merged in, or inside as
 *   nodes of its own where its method is no change of weights);
 * - `swappable/onnx/model.onnx`: the adapter as inputs without defaults, and `swappable/adapter.onnx_adapter` with its values; not for
 *   methods without values that stand for "no adapter".
 * Everything is computed before the first file is written, and each sub-folder appears as a whole or not at all; what an
 * earlier call wrote is replaced. Weights above 2 GB lie in `model.onnx_data`.
 * @throws PeftError WRITE_FAILED, FOLDER_NOT_REPLACEABLE, MERGE_NOT_FINITE
 * @example
 * await saveResult("out", tuned);
 * const classify = await pipeline("text-classification", "./out/merged", { dtype: "fp32" });
 */
export async function saveResult<Sample>(
  folder: string,
  result: SavedResult<Sample>,
  options: SaveOptions = {},
): Promise<void> {
  const { model, task, adapter } = result;
  const hubId = /^[\w.-]+\/[\w.-]+$/.test(model.name) && !existsSync(model.name) ? model.name : undefined;
  const base = options.baseModelName ?? hubId;
  const files = toPeft(adapter);
  const config = {
    ...files.config,
    task_type: peftTaskTypes[task.type],
    ...(base === undefined ? {} : { base_model_name_or_path: base }),
  };
  const card = { pipelineTag: pipelineTags[task.type], tags: ["onnx-peft"], ...options.card };
  const merged = applyAdapter(model.model, adapter);
  const method = methodOf(adapter.type);
  const isServed = declared(method.neutral, adapter.config) !== "none";
  const swappable = isServed ? makeSwappable(model.model, { method, config: adapter.config }) : null;
  const values = Object.entries(swappable ? adapterFeeds(swappable, adapter) : {}).map(
    ([name, { dims, data }]) => [name, tensorFrom("float32", dims, data as Float32Array)] as const,
  );

  await mkdir(folder, { recursive: true });
  await writePeftFolder(join(folder, "adapter"), { config, tensors: files.tensors, card });
  await atomicWriteFolder(join(folder, "merged"), async (temporary) => {
    await mkdir(join(temporary, "onnx"));
    const path = join(temporary, "onnx", "model.onnx");
    await writeModel(merged, path);
    const fields = resultConfig(model, task, existsSync(`${path}_data`));
    await writeFile(join(temporary, "config.json"), `${JSON.stringify(fields, null, 2)}\n`);
    for (const name of tokenizerFiles) {
      if (existsSync(join(model.folder, name))) await copyFile(join(model.folder, name), join(temporary, name));
    }
  });
  if (!swappable) return;
  await atomicWriteFolder(join(folder, "swappable"), async (temporary) => {
    await mkdir(join(temporary, "onnx"));
    await writeModel(swappable.model, join(temporary, "onnx", "model.onnx"));
    await writeFile(join(temporary, "adapter.onnx_adapter"), encodeOnnxAdapter(new Map(values)));
  });
}

/** The base's config.json with the task's labels and architecture, and what transformers.js has to know about the file. */
function resultConfig<Sample>(
  { config }: TextModel,
  task: TextTask<Sample>,
  hasExternalData: boolean,
): Record<string, unknown> {
  // Which files and number formats the base's exports have says nothing about this one.
  const { "transformers.js_config": _, ...fields } = config;
  const [architecture = ""] = Array.isArray(config["architectures"]) ? (config["architectures"] as string[]) : [];
  const family = /^[A-Za-z]+?(?=For|Model)/.exec(architecture)?.[0];
  return {
    ...fields,
    ...(family === undefined ? {} : { architectures: [`${family}${architectureSuffix[task.type]}`] }),
    ...task.configFields,
    ...(hasExternalData ? { "transformers.js_config": { use_external_data_format: { "model.onnx": 1 } } } : {}),
  };
}
