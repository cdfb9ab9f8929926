import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  createRandom,
  type Model,
  PeftError,
  readModel,
  readSafetensorsFolder,
  streamSeed,
  type TensorData,
  tensorFrom,
  toFloat32Array,
} from "@onnx-peft/core";
import { attachHead } from "./attach-head.ts";
import { architectureOf, buildEncoder } from "./build-encoder.ts";
import type { Head } from "./encoder.ts";
import { type ModelSource, modelFolder } from "./fetch-model.ts";

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
 * Loads a text encoder from a folder or the hub: `config.json` + safetensors for BERT, DistilBERT, RoBERTa and XLM-R, or
 * any encoder's ONNX export as transformers.js uses it. A head that is missing is made with weights from N(0, 0.02²).
 * @param seed of the new head's weights.
 * @throws PeftError MODEL_NOT_FOUND, MODEL_TYPE, CONFIG_INVALID, CHECKPOINT_MISMATCH, HEAD_MISMATCH
 */
export async function loadTextModel(source: ModelSource, head: Head, seed: number | string = 42): Promise<TextModel> {
  const folder = await modelFolder(source);
  const config = await readConfig(folder);
  const onnx = join(folder, source.onnxFile ?? "onnx/model.onnx");
  const fromCheckpoint =
    existsSync(join(folder, "model.safetensors")) || existsSync(join(folder, "model.safetensors.index.json"));
  if (source.onnxFile === undefined && fromCheckpoint) {
    const { tensors } = await readSafetensorsFolder(folder);
    const weights = new Map([...tensors].map(([name, tensor]) => [name, inFloat32(tensor)]));
    const initialized = initializeHead(weights, config, head, seed);
    return { model: buildEncoder(config, weights, head), config, folder, name: source.model, initialized };
  }
  if (!existsSync(onnx)) {
    throw new PeftError(
      "MODEL_NOT_FOUND",
      `${folder} has neither model.safetensors nor ${source.onnxFile ?? "onnx/model.onnx"}.`,
    );
  }
  const { model, initialized } = attachHead(await readModel(onnx), head, seed);
  return { model, config, folder, name: source.model, initialized };
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

/** Adds the head tensors that a checkpoint lacks, and drops a classifier made for another number of labels. */
function initializeHead(
  weights: Map<string, TensorData>,
  config: unknown,
  head: Head,
  seed: number | string,
): string[] {
  if (head.type === "none") return [];
  const { sizes, vocabSize, prefix } = architectureOf(config);
  const h = sizes.hiddenSize;
  const modules: [name: string, out: number, hasNorm?: boolean][] = headModules(prefix, head, h);
  const made: string[] = [];
  for (const [name, out] of modules) {
    const known = weights.get(`${name}.weight`) ?? weights.get(`${name.replace(/^bert\./, "")}.weight`);
    if (known && known.dims[0] === out) continue;
    const random = createRandom(streamSeed(seed, "head", name));
    weights.set(
      `${name}.weight`,
      tensorFrom("float32", [out, h], random.fillNormal(new Float32Array(out * h), 0, 0.02)),
    );
    weights.set(`${name}.bias`, tensorFrom("float32", [out], new Float32Array(out)));
    made.push(name);
  }
  if (head.type === "masked-lm" && !weights.has("cls.predictions.bias") && prefix === "bert.") {
    weights.set("cls.predictions.bias", tensorFrom("float32", [vocabSize], new Float32Array(vocabSize)));
  }
  return made;
}

function headModules(prefix: string, head: Head, hidden: number): [string, number][] {
  if (head.type === "masked-lm" || head.type === "none") return [];
  if (head.type === "token-classification") return [["classifier", head.labels]];
  if (prefix === "bert.")
    return [
      ["bert.pooler.dense", hidden],
      ["classifier", head.labels],
    ];
  if (prefix === "distilbert.")
    return [
      ["pre_classifier", hidden],
      ["classifier", head.labels],
    ];
  return [
    ["classifier.dense", hidden],
    ["classifier.out_proj", head.labels],
  ];
}
