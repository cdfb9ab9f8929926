import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRandom, writeSafetensors } from "@onnx-peft/core";
import { type BertSizes, initialBertWeights } from "@onnx-peft/text";

/** Writes a BERT with random weights in the Hugging Face layout. All matrices differ: equal bytes would share memory. */
export async function writeRandomModel(folder: string, config: BertSizes): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(folder, "model.safetensors"), initialBertWeights(config, createRandom(1), 2));
}
