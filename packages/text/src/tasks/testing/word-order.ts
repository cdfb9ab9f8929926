import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRandom, encodeSafetensors } from "@onnx-peft/core";
import { initialBertWeights } from "../../models/initial-weights.ts";
import type { ClassificationSample } from "../sequence-classification.ts";

/** A BERT of two layers with random weights and a head of two classes, as a folder in the hub's layout. Returns the folder. */
export function writeSmallBert(
  folder: string,
  sizes: { readonly hidden_size: number; readonly intermediate_size: number; readonly initializer_range: number },
): string {
  const config = {
    ...{ model_type: "bert", vocab_size: 60, num_hidden_layers: 2, num_attention_heads: 2 },
    ...{ max_position_embeddings: 16, type_vocab_size: 2 },
    ...sizes,
  };
  const model = join(folder, "model");
  mkdirSync(model);
  writeFileSync(join(model, "config.json"), JSON.stringify(config));
  const weights = initialBertWeights(config, createRandom(4), 2);
  writeFileSync(join(model, "model.safetensors"), encodeSafetensors(weights, { format: "pt" }));
  return model;
}

export const orders = ["ab", "ba"];

/** Which of two words comes first: 24 texts of up to nine tokens. */
export const wordOrderSamples: readonly ClassificationSample[] = Array.from({ length: 24 }, (_, i) => {
  const words = i % 2 === 0 ? [7, 9] : [9, 7];
  const filler = Array.from({ length: i % 5 }, (__, k) => 20 + ((i * 7 + k * 3) % 30));
  return { inputIds: Int32Array.of(1, ...words, ...filler, 2), label: i % 2 };
});
