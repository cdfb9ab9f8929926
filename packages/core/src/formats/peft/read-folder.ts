import { readFile, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { readSafetensors } from "../safetensors/read.ts";
import { decodeUtf8, parseStrictJson, plainJson } from "../strict-json.ts";
import { checkAdapterConfig } from "./adapter-config.ts";
import { stripPeftPrefix } from "./keys.ts";

export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";
/** Real configs have 1 to 20 kB; one with thousands of patterns stays below 1 MB. */
const maxConfigBytes = 4_000_000;
const pickles = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"].map((ending) => `adapter_model${ending}`);

/** An adapter as a folder of Hugging Face `peft` holds it. */
export interface PeftFolder {
  /** Fields of `adapter_config.json` as they are in the file, snake_case, unknown ones included; checked. */
  config: Record<string, unknown>;
  /** By name without `base_model.model.`; data lies in the file. */
  tensors: Map<string, TensorData>;
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : null;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new PeftError("FILE_UNREADABLE", `could not read ${path}: ${message}.`, { cause });
  }
}

function folderOf(folder: string, subfolder: string | undefined): string {
  const root = resolve(folder);
  if (subfolder === undefined) return root;
  const path = resolve(root, subfolder);
  if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw new PeftError("PATH_OUTSIDE_FOLDER", `expected a folder inside ${root}, received "${subfolder}".`);
  }
  return path;
}

/**
 * Reads and checks `adapter_config.json`.
 * @throws PeftError FILE_MISSING, FILE_UNREADABLE, PEFT_CONFIG_INVALID
 */
async function readConfig(folder: string): Promise<Record<string, unknown>> {
  const path = join(folder, configFile);
  const bytes = await sizeOf(path);
  if (bytes === null) throw new PeftError("FILE_MISSING", `expected ${configFile} in ${folder}.`);
  if (bytes > maxConfigBytes) {
    throw new PeftError("PEFT_CONFIG_INVALID", `expected at most ${maxConfigBytes} bytes in ${path}, it has ${bytes}.`);
  }
  const text = decodeUtf8(await readFile(path), path, "PEFT_CONFIG_INVALID");
  const json = parseStrictJson(text, { where: path, code: "PEFT_CONFIG_INVALID" });
  if (!(json instanceof Map)) throw new PeftError("PEFT_CONFIG_INVALID", `expected an object in ${path}.`);
  const config = plainJson(json) as Record<string, unknown>;
  checkAdapterConfig(config, path);
  return config;
}

async function refuseMissingWeights(folder: string): Promise<never> {
  for (const name of pickles) {
    if ((await sizeOf(join(folder, name))) === null) continue;
    throw new PeftError("PICKLE_REFUSED", `expected ${weightsFile} in ${folder}, found only ${name}, a pickle.`, {
      hint: "Pickles can run code. Load the adapter with peft in Python, where you trust its source, and call save_pretrained.",
    });
  }
  throw new PeftError("FILE_MISSING", `expected ${weightsFile} in ${folder}.`);
}

/**
 * Reads an adapter folder of Hugging Face `peft`: `adapter_config.json` and `adapter_model.safetensors`. Nothing in the
 * folder is executed; a pickle beside the safetensors file is not opened. Only the header of the weights is read, tensors
 * are places in the file.
 *
 * @param options.subfolder Folder inside `folder`, as `peft` has it for one repository with several adapters.
 * @throws PeftError FILE_MISSING, FILE_UNREADABLE, PEFT_CONFIG_INVALID, PEFT_KEYS, PICKLE_REFUSED, SAFETENSORS_INVALID,
 *   PATH_OUTSIDE_FOLDER
 * @example
 * const { config, tensors } = await readPeftFolder("adapter");
 * const { r } = parseLoraConfig(config);
 */
export async function readPeftFolder(folder: string, options: { subfolder?: string } = {}): Promise<PeftFolder> {
  const path = folderOf(folder, options.subfolder);
  const config = await readConfig(path);
  const weights = join(path, weightsFile);
  if ((await sizeOf(weights)) === null) return refuseMissingWeights(path);
  const { tensors } = await readSafetensors(weights);
  return { config, tensors: stripPeftPrefix(tensors, weights) };
}
