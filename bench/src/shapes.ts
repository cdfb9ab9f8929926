/** The two measured steps. LoRA r 8 on query and value, two labels, dropout 0.1. */
export const shapes = {
  mini: {
    title: "MiniLM-L6 shape, batch 16 x 128",
    batch: 16,
    tokens: 128,
    config: {
      model_type: "bert",
      vocab_size: 30522,
      hidden_size: 384,
      num_hidden_layers: 6,
      num_attention_heads: 12,
      intermediate_size: 1536,
      max_position_embeddings: 512,
      type_vocab_size: 2,
    },
  },
  base: {
    title: "BERT-base shape, batch 8 x 128",
    batch: 8,
    tokens: 128,
    config: {
      model_type: "bert",
      vocab_size: 30522,
      hidden_size: 768,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      intermediate_size: 3072,
      max_position_embeddings: 512,
      type_vocab_size: 2,
    },
  },
} as const;

export type ShapeName = keyof typeof shapes;

/** What one measured side reports. */
export interface StepFigures {
  readonly medianMs: number;
  readonly minMs: number;
  readonly tokensPerSecond: number;
  readonly peakMb: number;
}
