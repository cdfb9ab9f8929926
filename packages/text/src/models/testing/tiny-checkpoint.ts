import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRandom, encodeSafetensors, type TensorData, tensorFrom } from "@onnx-peft/core";
import { writeTinyTokenizer } from "../../data/testing/tiny-tokenizers.ts";

export type TinyKind = "bert" | "distilbert" | "roberta";
type Dims = readonly number[];

export const hidden = 16;
const [vocabulary, intermediate, layers, positions] = [96, 24, 2, 70] as const;

/** Fields of config.json as transformers writes them; without dropout, as tests fit a handful of samples. */
export function tinyConfig(kind: TinyKind): Record<string, unknown> {
  if (kind === "distilbert") {
    return {
      architectures: ["DistilBertModel"],
      model_type: "distilbert",
      vocab_size: vocabulary,
      dim: hidden,
      n_layers: layers,
      n_heads: 2,
      hidden_dim: intermediate,
      max_position_embeddings: positions,
      pad_token_id: 0,
      dropout: 0,
      attention_dropout: 0,
      seq_classif_dropout: 0,
    };
  }
  const isBert = kind === "bert";
  return {
    architectures: [isBert ? "BertModel" : "RobertaModel"],
    model_type: kind,
    vocab_size: vocabulary,
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    intermediate_size: intermediate,
    max_position_embeddings: positions,
    type_vocab_size: isBert ? 2 : 1,
    pad_token_id: isBert ? 0 : 1,
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
  };
}

/** Names and shapes of an encoder's tensors without a prefix: transformers' own names. */
export function tinyShapes(kind: TinyKind): Map<string, Dims> {
  const shapes = new Map<string, Dims>();
  const linear = (name: string, out: number, input: number): void => {
    shapes.set(`${name}.weight`, [out, input]);
    shapes.set(`${name}.bias`, [out]);
  };
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [hidden]);
    shapes.set(`${name}.bias`, [hidden]);
  };
  shapes.set("embeddings.word_embeddings.weight", [vocabulary, hidden]);
  shapes.set("embeddings.position_embeddings.weight", [positions, hidden]);
  if (kind !== "distilbert") shapes.set("embeddings.token_type_embeddings.weight", [kind === "bert" ? 2 : 1, hidden]);
  norm("embeddings.LayerNorm");
  for (let i = 0; i < layers; i++) {
    if (kind === "distilbert") {
      const layer = `transformer.layer.${i}`;
      for (const name of ["q_lin", "k_lin", "v_lin", "out_lin"]) linear(`${layer}.attention.${name}`, hidden, hidden);
      norm(`${layer}.sa_layer_norm`);
      linear(`${layer}.ffn.lin1`, intermediate, hidden);
      linear(`${layer}.ffn.lin2`, hidden, intermediate);
      norm(`${layer}.output_layer_norm`);
      continue;
    }
    const layer = `encoder.layer.${i}`;
    for (const name of ["query", "key", "value"]) linear(`${layer}.attention.self.${name}`, hidden, hidden);
    linear(`${layer}.attention.output.dense`, hidden, hidden);
    norm(`${layer}.attention.output.LayerNorm`);
    linear(`${layer}.intermediate.dense`, intermediate, hidden);
    linear(`${layer}.output.dense`, hidden, intermediate);
    norm(`${layer}.output.LayerNorm`);
  }
  return shapes;
}

export interface TinyOptions {
  readonly prefix?: string;
  readonly type?: "float32" | "float16" | "bfloat16";
  /** More tensors, a head for example. */
  readonly more?: Readonly<Record<string, Dims>>;
  readonly rename?: (name: string) => string;
  readonly seed?: number;
}

/** Random weights under their names in the file. */
export function tinyWeights(kind: TinyKind, options: TinyOptions = {}): Map<string, TensorData & { data: Uint8Array }> {
  const { prefix = "", type = "float32", more = {}, rename = (name) => name, seed = 5 } = options;
  const named = [...tinyShapes(kind)].map(([name, dims]): [string, Dims] => [prefix + name, dims]);
  return new Map(
    [...named, ...Object.entries(more)].map(([name, dims]) => {
      // A stream per tensor: the same values whatever else is in the file.
      const random = createRandom(`${seed} ${name.replace(prefix, "")}`);
      const isNorm = /norm\.weight$/i.test(name);
      const size = dims.reduce((a, b) => a * b, 1);
      const values = random.fillNormal(new Float32Array(size), isNorm ? 1 : 0, isNorm ? 0.1 : 0.3);
      return [rename(name), tensorFrom(type, dims, values)];
    }),
  );
}

/** A model folder in the Hugging Face layout: config.json, tokenizer and model.safetensors. */
export function writeTinyModel(kind: TinyKind, parent: string, options: TinyOptions = {}): string {
  const folder = writeTinyTokenizer(kind === "roberta" ? "roberta" : "bert", parent);
  writeFileSync(join(folder, "config.json"), JSON.stringify(tinyConfig(kind)));
  writeFileSync(join(folder, "model.safetensors"), encodeSafetensors(tinyWeights(kind, options), { format: "pt" }));
  return folder;
}
