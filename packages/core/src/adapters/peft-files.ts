import type { z } from "zod";
import { PeftError } from "../errors.ts";
import { snakeFromCamel } from "../formats/peft/config-case.ts";
import { sharedPrefix } from "../formats/peft/keys.ts";
import { full } from "../methods/full.ts";
import { type AdapterTensor, fileTypes, type Method } from "../methods/method.ts";
import { methodOf } from "../methods/registry.ts";
import type { TensorData } from "../onnx/ir.ts";
import { readTensorBytes, tensorFrom, toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import type { Adapter } from "./adapter.ts";
import { type AdapterConfig, parseAdapterConfig } from "./select.ts";
import { targetFields } from "./targets.ts";
import { wrappedNames } from "./wrapped-names.ts";

/** An adapter as the modules in `formats/peft` read and write it: snake_case fields and tensors without peft's prefix. */
export interface PeftFiles {
  readonly config: Record<string, unknown>;
  readonly tensors: Map<string, TensorData>;
}

/** Fields of a peft config that we set ourselves. */
const fixedFields = new Set(["peft_type", "inference_mode"]);

const fieldsOf = (method: Method): Set<string> =>
  new Set([...Object.keys((method.config as unknown as z.ZodObject).shape), ...Object.keys(targetFields)]);

/** Our name of a field to its name in files. */
function fileNames(method: Method): Map<string, string> {
  const special = method.peft?.names ?? {};
  return new Map(
    [...fieldsOf(method)].map((name) => [name, special[name] ?? Object.keys(snakeFromCamel({ [name]: 0 }))[0] ?? name]),
  );
}

/**
 * The modules that a method chose by itself, from the names of its tensors. `peft` has defaults for some model types only
 * (none for LN tuning of BERT) and refuses a config without `target_modules` for all others.
 */
function modulesOf(method: Method, tensors: Iterable<string>): string[] {
  const names = new Set(tensors);
  const endings = Object.values(method.keys).map((key) => `.${key}`);
  const modules = [...names].flatMap((name) => {
    const ending = endings.find((end) => name.endsWith(end));
    return ending === undefined ? [] : [name.slice(0, -ending.length)];
  });
  // A module with a weight of its own in the file is one of modulesToSave.
  return [...new Set(modules)].filter((module) => !names.has(`${module}.${full.keys["weight"]}`));
}

/** The adapter in the form in which files hold it: most methods have one form only. */
export function inPeftForm(adapter: Adapter): Adapter {
  const written = methodOf(adapter.type).peft?.write?.(adapter);
  return written ? { ...adapter, config: written.config as AdapterConfig, tensors: written.tensors } : adapter;
}

/**
 * The config fields and tensors of an adapter folder that `peft` loads (methods that `peft` has), for `writePeftFolder`.
 * @param options.fanInFanOut the adapted modules store their weights [in, out] (GPT-2's Conv1D)
 * @param options.swapExperts the model stores its experts [experts, in, out], and its class in transformers does not say so (Llama 4):
 *   peft takes the last axis for the input there
 * @example
 * await writePeftFolder("adapter", toPeft(adapter));
 */
export function toPeft(
  original: Adapter,
  options: { readonly fanInFanOut?: boolean; readonly swapExperts?: boolean } = {},
): PeftFiles {
  const method = methodOf(original.type);
  const adapter = wrappedNames(inPeftForm(original), { swap: options.swapExperts ?? false });
  const names = fileNames(method);
  const config: Record<string, unknown> = { ...adapter.otherFields, peft_type: method.type, inference_mode: true };
  const unwritten = method.peft?.unwritten ?? [];
  for (const [name, value] of Object.entries(adapter.config)) {
    if (value !== undefined && !unwritten.includes(name)) config[names.get(name) ?? name] = value;
  }
  if (adapter.config.targetModules === undefined) {
    // peft has its own idea of modules where none are given; the parameters that are meant stand in target_parameters.
    const isByParameter = adapter.config.targetParameters !== undefined;
    const modules = isByParameter ? [] : modulesOf(method, adapter.tensors.keys());
    if (modules.length > 0 || isByParameter) config[names.get("targetModules") ?? "target_modules"] = modules;
  }
  if (options.fanInFanOut) config["fan_in_fan_out"] = true;
  const { pieces } = method.peft ?? {};
  const inPieces = pieces ? pieces.write(adapter).tensors : adapter.tensors;
  const tensors = new Map<string, TensorData>(
    [...inPieces].map(([name, { dims, data, fileType }]) => [name, tensorFrom(fileType ?? "float32", dims, data)]),
  );
  return { config, tensors };
}

/**
 * An adapter out of what `readPeftFolder` read. Fields that do not change the computation are kept and written back.
 * @throws PeftError UNKNOWN_METHOD; PEFT_OPTION for variants that would be computed wrongly; CONFIG_INVALID
 * @example
 * const adapter = fromPeft(await readPeftFolder("adapter"));
 */
export function fromPeft({
  config,
  tensors,
}: {
  config: Readonly<Record<string, unknown>>;
  tensors: ReadonlyMap<string, TensorData>;
}): Adapter {
  const method = methodOf(String(config["peft_type"] ?? ""));
  refuseVariants(method, config);
  const known = new Map([...fileNames(method)].map(([ours, theirs]) => [theirs, ours]));
  const own: Record<string, unknown> = {};
  const otherFields: Record<string, unknown> = {};
  const unwritten = method.peft?.unwritten ?? [];
  for (const [field, value] of Object.entries(config)) {
    const name = known.get(field);
    if (name === undefined || unwritten.includes(name)) {
      if (!fixedFields.has(field)) otherFields[field] = value;
    } else if (value !== null && !isForeignStart(name, value)) own[name] = value;
    else if (value !== null) otherFields[field] = value;
  }
  const data = new Map<string, AdapterTensor>();
  for (const [name, tensor] of withoutCopies(method, tensors)) {
    const { dims } = tensor;
    const fileType = fileTypes.find((type) => type === tensor.type);
    if (fileType === undefined) data.set(name, { dims, data: toFloat32Array(tensor) });
    else data.set(name, { dims, data: Float32Array.from(toNumbers(tensor)), fileType });
  }
  const parsed = parseAdapterConfig(method, own);
  const { pieces, read } = method.peft ?? {};
  const whole = pieces ? pieces.read({ config: parsed, tensors: data }).tensors : data;
  const form = read?.({ config: parsed, tensors: whole }) ?? { config: parsed, tensors: whole };
  return { type: method.type, config: form.config as AdapterConfig, tensors: form.tensors, otherFields };
}

/**
 * peft writes a tensor that all modules share once more under every module that uses it (RandLoRA's bases). Copies are left out;
 * where only they are there, the first one stands for all.
 * @throws PeftError PEFT_KEYS when two copies differ
 */
function withoutCopies(method: Method, tensors: ReadonlyMap<string, TensorData>): Map<string, TensorData> {
  const { sharedKeys } = method;
  if (!sharedKeys || typeof sharedKeys === "function") return new Map(tensors);
  const kept = new Map<string, TensorData>();
  for (const [name, tensor] of tensors) {
    const shared = Object.values(sharedKeys).find((key) => name.endsWith(`.${key.slice(sharedPrefix.length)}`));
    const known = kept.get(shared ?? "") ?? tensors.get(shared ?? "");
    if (shared === undefined || !known) kept.set(shared ?? name, tensor);
    else if (name === shared) kept.set(name, tensor);
    else if (Buffer.compare(readTensorBytes(known), readTensorBytes(tensor)) !== 0) {
      throw new PeftError("PEFT_KEYS", `"${name}" and "${shared}" should be one tensor and hold different values.`);
    }
  }
  return kept;
}

/** How a trained adapter was started does not matter any more, except where the start changed the base weights. */
const isForeignStart = (name: string, value: unknown): boolean =>
  name === "initLoraWeights" && value !== true && value !== "gaussian";

const startsThatChangeTheBase = ["pissa", "olora", "loftq", "corda", "lora_ga"];

function refuseVariants(method: Method, config: Readonly<Record<string, unknown>>): void {
  const problems: string[] = [];
  for (const [field, allowed] of Object.entries(method.peft?.only ?? {})) {
    const value = config[field];
    const isEmpty = value === undefined || value === null || (Array.isArray(value) && value.length === 0);
    if (!isEmpty && !allowed.includes(value)) problems.push(`${field} is ${JSON.stringify(value).slice(0, 60)}`);
  }
  const start = config["init_lora_weights"];
  if (typeof start === "string" && startsThatChangeTheBase.some((name) => start.toLowerCase().startsWith(name))) {
    problems.push(`init_lora_weights is "${start}", which changes the base model's weights`);
  }
  if (problems.length > 0) {
    throw new PeftError(
      "PEFT_OPTION",
      `This ${method.type} adapter uses what is not supported: ${problems.join("; ")}.`,
      {
        hint: "peft can convert most variants: save the adapter with path_initial_model_for_weight_conversion, or merge it there.",
        details: { problems },
      },
    );
  }
}
