import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRandom, type TensorData, tensorFrom, writeSafetensors } from "@onnx-peft/core";
import type { shapes } from "./shapes.ts";

type Config = (typeof shapes)[keyof typeof shapes]["config"];

/** Writes a BERT with random weights in the Hugging Face layout. All matrices differ: equal bytes would share memory. */
export async function writeRandomModel(folder: string, config: Config): Promise<void> {
  const random = createRandom(1);
  const tensors: [string, TensorData][] = [];
  const h = config.hidden_size;
  const matrix = (name: string, rows: number, columns: number): void => {
    tensors.push([
      name,
      tensorFrom("float32", [rows, columns], random.fillNormal(new Float32Array(rows * columns), 0, 0.02)),
    ]);
  };
  const vector = (name: string, size: number, value: number): void => {
    tensors.push([name, tensorFrom("float32", [size], new Float32Array(size).fill(value))]);
  };
  const linear = (name: string, input: number, output: number): void => {
    matrix(`${name}.weight`, output, input);
    vector(`${name}.bias`, output, 0);
  };
  const norm = (name: string): void => {
    vector(`${name}.weight`, h, 1);
    vector(`${name}.bias`, h, 0);
  };
  matrix("bert.embeddings.word_embeddings.weight", config.vocab_size, h);
  matrix("bert.embeddings.position_embeddings.weight", config.max_position_embeddings, h);
  matrix("bert.embeddings.token_type_embeddings.weight", config.type_vocab_size, h);
  norm("bert.embeddings.LayerNorm");
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `bert.encoder.layer.${i}`;
    for (const name of ["query", "key", "value"]) linear(`${layer}.attention.self.${name}`, h, h);
    linear(`${layer}.attention.output.dense`, h, h);
    norm(`${layer}.attention.output.LayerNorm`);
    linear(`${layer}.intermediate.dense`, h, config.intermediate_size);
    linear(`${layer}.output.dense`, config.intermediate_size, h);
    norm(`${layer}.output.LayerNorm`);
  }
  linear("bert.pooler.dense", h, h);
  linear("classifier", h, 2);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}
