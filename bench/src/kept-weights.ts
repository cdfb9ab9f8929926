import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readSafetensors, streamSeed, type Weights, writeSafetensors } from "@onnx-peft/core";

const folder = fileURLToPath(new URL("../../runs/images", import.meta.url));

/** Weights that take long to make, kept in `runs/` under a key that says everything they depend on. */
export async function keptWeights(key: string, make: () => Promise<Weights>): Promise<Weights> {
  const path = join(folder, `${streamSeed(key, "file")}.safetensors`);
  if (existsSync(path)) return (await readSafetensors(path)).tensors;
  const weights = await make();
  await mkdir(folder, { recursive: true });
  await writeSafetensors(path, weights);
  return weights;
}
