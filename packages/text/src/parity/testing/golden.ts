import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type RuntimeTensor, readSafetensors, type TensorData, toFloat32Array, toNumbers } from "@onnx-peft/core";

/** Numbers made by PyTorch, transformers and peft: see parity/README.md. */
const root = fileURLToPath(new URL("../../../../../parity/golden", import.meta.url));

export const goldenPath = (...parts: readonly string[]): string => join(root, ...parts);

export type GoldenTensors = ReadonlyMap<string, TensorData>;

export const readGolden = async (...parts: readonly string[]): Promise<GoldenTensors> =>
  (await readSafetensors(goldenPath(...parts))).tensors;

export const readGoldenJson = (...parts: readonly string[]): unknown =>
  JSON.parse(readFileSync(goldenPath(...parts), "utf8"));

export function goldenTensor(tensors: GoldenTensors, name: string): TensorData {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`The golden file has no "${name}".`);
  return tensor;
}

/** float32 values of a golden tensor. */
export const floatsOf = (tensors: GoldenTensors, name: string): Float32Array =>
  toFloat32Array(goldenTensor(tensors, name));

/** A golden tensor as a feed. */
export function feedOf(tensors: GoldenTensors, name: string): RuntimeTensor {
  const tensor = goldenTensor(tensors, name);
  const { dims, type } = tensor;
  return type === "int64"
    ? { type, dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) }
    : { type: "float32", dims, data: toFloat32Array(tensor) };
}

/** Feeds for those of `names` that the file has under `prefix`. */
export const feedsOf = (
  tensors: GoldenTensors,
  prefix: string,
  names: readonly string[],
): Record<string, RuntimeTensor> =>
  Object.fromEntries(
    names.flatMap((name) => (tensors.has(prefix + name) ? [[name, feedOf(tensors, prefix + name)]] : [])),
  );

/** Golden tensors whose name begins with `prefix`, by the rest of it. */
export const underPrefix = (tensors: GoldenTensors, prefix: string): Map<string, Float32Array> =>
  new Map(
    [...tensors].flatMap(([name, tensor]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), toFloat32Array(tensor)]] : [],
    ),
  );
