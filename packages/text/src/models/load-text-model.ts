import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Model,
  PeftError,
  readModel,
  readSafetensorsFolder,
  type TensorData,
  tensorFrom,
  toFloat32Array,
} from "@onnx-peft/core";
import { attachHead } from "./attach-head.ts";
import { architectureOf, buildEncoder, withFullNames } from "./build-encoder.ts";
import type { Head } from "./encoder.ts";
import { cacheBlobs, DEFAULT_ONNX_FILE, type ModelSource, modelFolder } from "./fetch-model.ts";
import { initializeHead } from "./initialize-head.ts";

/** A text encoder ready to be adapted. */
export interface TextModel {
  readonly model: Model;
  /** Fields of its config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Folder with config and tokenizer. */
  readonly folder: string;
  /** What the user called it: a folder or a hub id. */
  readonly name: string;
  /** Modules that the checkpoint lacked and that start from random values; they must be trained. */
  readonly initialized: readonly string[];
}

/**
 * Loads a text encoder from a folder or the hub: `config.json` + safetensors (one file or shards) for BERT, DistilBERT,
 * RoBERTa and XLM-R, or any encoder's ONNX export as transformers.js uses it. A head that is missing, or was made for
 * another number of labels, gets weights from N(0, 0.02²). Half precision is widened to float32, in which training computes.
 * @param head what the task needs: `task.head`.
 * @param seed of the new head's weights.
 * @throws PeftError MODEL_NOT_FOUND, MODEL_TYPE, CONFIG_INVALID, CHECKPOINT_MISMATCH, HEAD_MISMATCH, MODEL_INPUTS
 * @example
 * const model = await loadTextModel({ model: "google-bert/bert-base-uncased" }, task.head);
 * model.initialized; // ["classifier"]
 */
export async function loadTextModel(source: ModelSource, head: Head, seed: number | string = 42): Promise<TextModel> {
  const folder = await modelFolder(source);
  const config = await readConfig(folder);
  const has = (name: string): boolean => existsSync(join(folder, name));
  const common = { config, folder, name: source.model };
  if (source.onnxFile === undefined && (has("model.safetensors") || has("model.safetensors.index.json"))) {
    const architecture = architectureOf(config);
    const { tensors } = await readSafetensorsFolder(folder);
    const weights = withFullNames(tensors, architecture.prefix);
    for (const [name, tensor] of weights) weights.set(name, inFloat32(tensor));
    const initialized = initializeHead(weights, architecture, head, seed);
    return { ...common, model: buildEncoder(config, weights, head), initialized };
  }
  const onnxFile = source.onnxFile ?? DEFAULT_ONNX_FILE;
  if (!has(onnxFile)) {
    const sought = source.onnxFile ?? `model.safetensors nor ${DEFAULT_ONNX_FILE}`;
    throw new PeftError(
      "MODEL_NOT_FOUND",
      `${folder} has ${source.onnxFile === undefined ? "neither" : "no"} ${sought}.`,
    );
  }
  return {
    ...common,
    ...attachHead(await readModel(join(folder, onnxFile), { allowLinksInto: cacheBlobs(folder) }), head, seed),
  };
}

async function readConfig(folder: string): Promise<Record<string, unknown>> {
  const path = join(folder, "config.json");
  try {
    const parsed: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>;
    throw new PeftError("CONFIG_INVALID", `${path} is not a JSON object.`);
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError(
      "CONFIG_INVALID",
      `Could not read ${path}: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
}

/** float32 weights stay where they are; half precision is widened, as training computes in float32. */
const inFloat32 = (tensor: TensorData): TensorData =>
  tensor.type === "float16" || tensor.type === "bfloat16"
    ? tensorFrom("float32", tensor.dims, toFloat32Array(tensor))
    : tensor;
