import { type Random, type TensorData, tensorFrom } from "@onnx-peft/core";

/** The fields of a BERT `config.json` that the sizes of its weights follow from. */
export interface BertSizes {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly intermediate_size: number;
  readonly max_position_embeddings: number;
  readonly type_vocab_size: number;
  /** Standard deviation of the matrices; default 0.02. */
  readonly initializer_range?: number;
}

export type InitialWeight = TensorData & { readonly data: Uint8Array };

/**
 * Start values of a BERT, for pre-training from nothing: N(0, 0.02²) for matrices, zero biases, unit norms (Devlin et al.
 * 2018). Names are those of a checkpoint.
 * @param head "masked-lm", or the number of labels of a classifier with its pooler.
 * @example
 * const model = buildEncoder(config, initialBertWeights(config, createRandom(42), "masked-lm"), { type: "masked-lm" });
 */
export function initialBertWeights(
  sizes: BertSizes,
  random: Random,
  head: "masked-lm" | number,
): Map<string, InitialWeight> {
  const { hidden_size: h, intermediate_size: f, initializer_range: std = 0.02 } = sizes;
  const weights = new Map<string, InitialWeight>();
  const matrix = (name: string, rows: number, columns: number): void => {
    const data = random.fillNormal(new Float32Array(rows * columns), 0, std);
    weights.set(name, tensorFrom("float32", [rows, columns], data));
  };
  const vector = (name: string, n: number, value: number): void => {
    weights.set(name, tensorFrom("float32", [n], new Float32Array(n).fill(value)));
  };
  const linear = (name: string, input: number, output: number): void => {
    matrix(`${name}.weight`, output, input);
    vector(`${name}.bias`, output, 0);
  };
  const norm = (name: string): void => {
    vector(`${name}.weight`, h, 1);
    vector(`${name}.bias`, h, 0);
  };
  matrix("bert.embeddings.word_embeddings.weight", sizes.vocab_size, h);
  matrix("bert.embeddings.position_embeddings.weight", sizes.max_position_embeddings, h);
  matrix("bert.embeddings.token_type_embeddings.weight", sizes.type_vocab_size, h);
  norm("bert.embeddings.LayerNorm");
  for (let i = 0; i < sizes.num_hidden_layers; i++) {
    const layer = `bert.encoder.layer.${i}`;
    for (const name of ["query", "key", "value"]) linear(`${layer}.attention.self.${name}`, h, h);
    linear(`${layer}.attention.output.dense`, h, h);
    norm(`${layer}.attention.output.LayerNorm`);
    linear(`${layer}.intermediate.dense`, h, f);
    linear(`${layer}.output.dense`, f, h);
    norm(`${layer}.output.LayerNorm`);
  }
  if (head === "masked-lm") {
    linear("cls.predictions.transform.dense", h, h);
    norm("cls.predictions.transform.LayerNorm");
    vector("cls.predictions.bias", sizes.vocab_size, 0);
  } else {
    linear("bert.pooler.dense", h, h);
    linear("classifier", h, head);
  }
  return weights;
}
