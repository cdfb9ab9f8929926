import { activate, attentionBias, dropoutNode, encoderBlock, layerNorm, linear, type Value } from "@onnx-peft/core";
import { z } from "zod";
import { countedFromZero, type EncoderArchitecture, firstToken, maskedRows } from "./encoder.ts";

const size = z
  .int()
  .positive()
  .max(1 << 20);
const share = z.number().min(0).lt(1);

/** The fields of a DistilBERT `config.json` that the graph depends on; defaults are transformers'. */
export const distilBertConfig = z
  .object({
    model_type: z.literal("distilbert"),
    vocab_size: size.default(30522),
    dim: size.default(768),
    n_layers: z.int().positive().max(512).default(6),
    n_heads: size.default(12),
    hidden_dim: size.default(3072),
    activation: z.enum(["gelu", "gelu_new", "relu"]).default("gelu"),
    dropout: share.default(0.1),
    attention_dropout: share.default(0.1),
    seq_classif_dropout: share.default(0.2),
    max_position_embeddings: size.default(512),
  })
  .refine((c) => c.dim % c.n_heads === 0, "dim must be a multiple of n_heads");
export type DistilBertConfig = z.output<typeof distilBertConfig>;

const EPSILON = 1e-12;

/** DistilBERT (Sanh et al. 2019, arXiv 1910.01108): BERT without segments and pooler. */
export function distilBert(config: DistilBertConfig): EncoderArchitecture {
  const { dim } = config;
  const sizes = {
    hiddenSize: dim,
    heads: config.n_heads,
    intermediateSize: config.hidden_dim,
    layerNormEps: EPSILON,
    hiddenDropout: config.dropout,
    attentionDropout: config.attention_dropout,
    activation: config.activation,
  };
  const table = "distilbert.embeddings.word_embeddings.weight";
  return {
    sizes,
    vocabSize: config.vocab_size,
    usesTokenTypes: false,
    prefix: "distilbert.",
    body(g, w, inputs) {
      const [batch, tokens] = inputs.inputIds.shape;
      if (batch === undefined || tokens === undefined) throw new RangeError("input_ids must have two axes.");
      const words = g.gather(w.weight(table, [config.vocab_size, dim]), inputs.inputIds);
      const positions = w.weight("distilbert.embeddings.position_embeddings.weight", [
        config.max_position_embeddings,
        dim,
      ]);
      const placed = g.add(words, countedFromZero(g, positions, inputs.inputIds));
      const embedded = dropoutNode(
        g,
        layerNorm(g, w, "distilbert.embeddings.LayerNorm", placed, dim, EPSILON),
        config.dropout,
      );
      const bias = attentionBias(g, inputs.attentionMask);
      let rows = g.op("Reshape", [embedded, g.ints([-1, dim])])[0] as Value;
      for (let i = 0; i < config.n_layers; i++) {
        const layer = `distilbert.transformer.layer.${i}`;
        const names = {
          query: `${layer}.attention.q_lin`,
          key: `${layer}.attention.k_lin`,
          value: `${layer}.attention.v_lin`,
          output: `${layer}.attention.out_lin`,
          attentionNorm: `${layer}.sa_layer_norm`,
          up: `${layer}.ffn.lin1`,
          down: `${layer}.ffn.lin2`,
          outputNorm: `${layer}.output_layer_norm`,
        };
        rows = encoderBlock(g, w, names, rows, bias, batch, tokens, { ...sizes, attentionOutputDropout: 0 });
      }
      return { rows, hidden: g.reshape(rows, [batch, tokens, dim], embedded) };
    },
    head(g, w, encoded, head) {
      if (head.type === "sequence-classification") {
        const hidden = g.relu(linear(g, w, "pre_classifier", firstToken(g, encoded.hidden), dim, dim));
        return linear(g, w, "classifier", dropoutNode(g, hidden, config.seq_classif_dropout), dim, head.labels);
      }
      if (head.type === "token-classification") {
        const logits = linear(g, w, "classifier", dropoutNode(g, encoded.rows, config.dropout), dim, head.labels);
        const [batch, tokens] = encoded.hidden.shape;
        return g.reshape(logits, [batch ?? 1, tokens ?? 1, head.labels], encoded.hidden);
      }
      const rows = activate(
        g,
        linear(g, w, "vocab_transform", maskedRows(g, encoded.rows), dim, dim),
        config.activation,
      );
      const normed = layerNorm(g, w, "vocab_layer_norm", rows, dim, EPSILON);
      return g.gemm(
        normed,
        w.weight(table, [config.vocab_size, dim]),
        w.weight("vocab_projector.bias", [config.vocab_size]),
        { transB: true },
      );
    },
  };
}
