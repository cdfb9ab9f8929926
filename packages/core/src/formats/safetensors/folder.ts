import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { decodeUtf8, parseStrictJson } from "../strict-json.ts";
import { readSafetensors, type Safetensors } from "./read.ts";

const singleFile = "model.safetensors";
const indexFile = "model.safetensors.index.json";
const maxIndexBytes = 100_000_000;
const maxShards = 10_000;
const maxProblems = 20;
/** A plain name in the same folder: no separator, no drive, no parent. Links are allowed, model caches consist of them. */
const shardName = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors$/;

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

const invalidIndex = (path: string, problem: string): PeftError =>
  new PeftError("SAFETENSORS_INVALID", `${path} is not a valid index of shards: ${problem}.`);

/** Tensor names by shard. */
async function readIndex(path: string, bytes: number): Promise<Map<string, string[]>> {
  if (bytes > maxIndexBytes) throw invalidIndex(path, `expected at most ${maxIndexBytes} bytes, received ${bytes}`);
  const text = decodeUtf8(await readFile(path), path, "SAFETENSORS_INVALID");
  const json = parseStrictJson(text, { where: path, code: "SAFETENSORS_INVALID" });
  const weights = json instanceof Map ? json.get("weight_map") : undefined;
  if (!(weights instanceof Map)) throw invalidIndex(path, 'expected an object "weight_map"');
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of weights) {
    if (typeof shard !== "string" || !shardName.test(shard)) {
      const shown = JSON.stringify(tensor.slice(0, 200));
      throw invalidIndex(
        path,
        `${shown} is not in a .safetensors file of this folder but in ${String(shard).slice(0, 200)}`,
      );
    }
    const names = shards.get(shard) ?? [];
    names.push(tensor);
    shards.set(shard, names);
    if (shards.size > maxShards) throw invalidIndex(path, `it names more than ${maxShards} files`);
  }
  return shards;
}

/**
 * Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
 * Shards lie in the folder itself; each holds exactly the tensors that the index says. Metadata of all shards is put
 * together, the first value of a key wins.
 *
 * @throws PeftError FILE_MISSING, FILE_UNREADABLE, SAFETENSORS_INVALID, PICKLE_REFUSED
 * @example
 * const { tensors } = await readSafetensorsFolder("models/bert-tiny");
 */
export async function readSafetensorsFolder(folder: string): Promise<Safetensors> {
  const root = resolve(folder);
  if ((await sizeOf(join(root, singleFile))) !== null) return readSafetensors(join(root, singleFile));
  const indexPath = join(root, indexFile);
  const indexBytes = await sizeOf(indexPath);
  if (indexBytes === null) {
    throw new PeftError("FILE_MISSING", `expected ${singleFile} or ${indexFile} in ${root}.`, {
      hint: "Weights as .bin, .pt or .ckpt are pickles, which are not read: convert them to safetensors first.",
    });
  }
  const tensors = new Map<string, TensorData>();
  let metadata: Record<string, string> = {};
  const problems: string[] = [];
  for (const [shard, names] of await readIndex(indexPath, indexBytes)) {
    const content = await readSafetensors(join(root, shard));
    metadata = { ...content.metadata, ...metadata };
    for (const name of names) {
      const tensor = content.tensors.get(name);
      if (tensor) tensors.set(name, tensor);
      else problems.push(`${shard} lacks ${JSON.stringify(name.slice(0, 200))}`);
    }
    const listed = new Set(names);
    for (const name of content.tensors.keys()) {
      if (!listed.has(name)) problems.push(`${shard} has ${JSON.stringify(name.slice(0, 200))}, the index does not`);
    }
  }
  if (problems.length > 0) {
    const more = problems.length > maxProblems ? `; and ${problems.length - maxProblems} more` : "";
    throw invalidIndex(indexPath, problems.slice(0, maxProblems).join("; ") + more);
  }
  return { tensors, metadata };
}
