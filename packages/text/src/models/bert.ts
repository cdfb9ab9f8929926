import {
  activate,
  attentionBias,
  type Builder,
  dropoutNode,
  encoderBlock,
  layerNorm,
  linear,
  type Value,
  type WeightReader,
} from "@onnx-peft/core";
import { z } from "zod";
import {
  countedFromZero,
  type EncodedText,
  type EncoderArchitecture,
  type EncoderInputs,
  firstToken,
  type Head,
  maskedRows,
} from "./encoder.ts";

const size = z
  .int()
  .positive()
  .max(1 << 20);
const share = z.number().min(0).lt(1);

/** The fields of a BERT `config.json` that the graph depends on; defaults are transformers'. */
export const bertConfig = z
  .object({
    model_type: z.enum(["bert", "roberta", "xlm-roberta"]),
    vocab_size: size.default(30522),
    hidden_size: size.default(768),
    num_hidden_layers: z.int().positive().max(512).default(12),
    num_attention_heads: size.default(12),
    intermediate_size: size.default(3072),
    hidden_act: z.enum(["gelu", "gelu_new", "relu"]).default("gelu"),
    hidden_dropout_prob: share.default(0.1),
    attention_probs_dropout_prob: share.default(0.1),
    classifier_dropout: share.nullish(),
    max_position_embeddings: size.default(512),
    type_vocab_size: size.default(2),
    layer_norm_eps: z.number().positive().default(1e-12),
    pad_token_id: z.int().min(0).nullish(),
    position_embedding_type: z.literal("absolute").default("absolute"),
  })
  .refine((c) => c.hidden_size % c.num_attention_heads === 0, "hidden_size must be a multiple of num_attention_heads");
export type BertConfig = z.output<typeof bertConfig>;

/**
 * BERT (Devlin et al. 2018, arXiv 1810.04805), RoBERTa (Liu et al. 2019, arXiv 1907.11692) and XLM-R from a config.
 * They differ in how positions are counted and in their heads.
 */
export function bert(config: BertConfig): EncoderArchitecture {
  const isBert = config.model_type === "bert";
  const prefix = isBert ? "bert." : "roberta.";
  const hiddenSize = config.hidden_size;
  const classifierDropout = config.classifier_dropout ?? config.hidden_dropout_prob;
  const sizes = {
    hiddenSize,
    heads: config.num_attention_heads,
    intermediateSize: config.intermediate_size,
    layerNormEps: config.layer_norm_eps,
    hiddenDropout: config.hidden_dropout_prob,
    attentionDropout: config.attention_probs_dropout_prob,
    activation: config.hidden_act,
  };
  return {
    sizes,
    vocabSize: config.vocab_size,
    usesTokenTypes: isBert,
    prefix,
    body(g, w, inputs) {
      const embedded = embed(g, w, config, prefix, inputs);
      const [batch, tokens] = inputs.inputIds.shape;
      if (batch === undefined || tokens === undefined) throw new RangeError("input_ids must have two axes.");
      const bias = attentionBias(g, inputs.attentionMask);
      let rows = g.op("Reshape", [embedded, g.ints([-1, hiddenSize])])[0] as Value;
      for (let i = 0; i < config.num_hidden_layers; i++) {
        rows = encoderBlock(g, w, layerNames(`${prefix}encoder.layer.${i}`), rows, bias, batch, tokens, sizes);
      }
      return { rows, hidden: g.reshape(rows, [batch, tokens, hiddenSize], embedded) };
    },
    head(g, w, encoded, head) {
      if (head.type === "masked-lm") return maskedLanguageHead(g, w, config, prefix, encoded);
      if (head.type === "token-classification") {
        const logits = linear(
          g,
          w,
          "classifier",
          dropoutNode(g, encoded.rows, classifierDropout),
          hiddenSize,
          head.labels,
        );
        const [batch, tokens] = encoded.hidden.shape;
        return g.reshape(logits, [batch ?? 1, tokens ?? 1, head.labels], encoded.hidden);
      }
      return isBert
        ? pooledClassifier(g, w, encoded, head, hiddenSize, classifierDropout, "bert.pooler.dense", "classifier")
        : pooledClassifier(
            g,
            w,
            encoded,
            head,
            hiddenSize,
            classifierDropout,
            "classifier.dense",
            "classifier.out_proj",
          );
    },
  };
}

const layerNames = (layer: string) => ({
  query: `${layer}.attention.self.query`,
  key: `${layer}.attention.self.key`,
  value: `${layer}.attention.self.value`,
  output: `${layer}.attention.output.dense`,
  attentionNorm: `${layer}.attention.output.LayerNorm`,
  up: `${layer}.intermediate.dense`,
  down: `${layer}.output.dense`,
  outputNorm: `${layer}.output.LayerNorm`,
});

/** Word, position and segment embeddings, normalised: [batch, sequence, hidden]. */
function embed(g: Builder, w: WeightReader, config: BertConfig, prefix: string, inputs: EncoderInputs): Value {
  const h = config.hidden_size;
  const e = `${prefix}embeddings.`;
  const words = g.gather(w.weight(`${e}word_embeddings.weight`, [config.vocab_size, h]), inputs.inputIds);
  const types = w.weight(`${e}token_type_embeddings.weight`, [config.type_vocab_size, h]);
  const typed = g.add(
    words,
    // As transformers does without segments: everything is in segment 0.
    g.gather(types, inputs.tokenTypeIds ?? g.mul(inputs.inputIds, 0)),
  );
  const table = w.weight(`${e}position_embeddings.weight`, [config.max_position_embeddings, h]);
  const placed = g.add(
    typed,
    config.model_type === "bert"
      ? countedFromZero(g, table, inputs.inputIds)
      : countedFromPadding(g, table, inputs, config),
  );
  return dropoutNode(g, layerNorm(g, w, `${e}LayerNorm`, placed, h, config.layer_norm_eps), config.hidden_dropout_prob);
}

/** RoBERTa: positions count the tokens that are not padding, starting after the padding index; padding sits on it. */
function countedFromPadding(g: Builder, table: Value, inputs: EncoderInputs, config: BertConfig): Value {
  const padding = config.pad_token_id ?? 1;
  const real = g.cast(g.not(g.equal(inputs.inputIds, padding)), "int64");
  const positions = g.add(g.mul(g.cumSum(real, 1), real), padding);
  return g.gather(table, positions);
}

function pooledClassifier(
  g: Builder,
  w: WeightReader,
  encoded: EncodedText,
  head: Extract<Head, { type: "sequence-classification" }>,
  hiddenSize: number,
  dropout: number,
  dense: string,
  output: string,
): Value {
  const first = firstToken(g, encoded.hidden);
  // RoBERTa's head drops out before its dense layer too; BERT's pooler does not.
  const input = dense === "classifier.dense" ? dropoutNode(g, first, dropout) : first;
  const pooled = g.tanh(linear(g, w, dense, input, hiddenSize, hiddenSize));
  return linear(g, w, output, dropoutNode(g, pooled, dropout), hiddenSize, head.labels);
}

/** Transform, norm and the tied word embeddings as output matrix: [n, vocab] for the n masked rows. */
function maskedLanguageHead(
  g: Builder,
  w: WeightReader,
  config: BertConfig,
  prefix: string,
  encoded: EncodedText,
): Value {
  const h = config.hidden_size;
  const bert = config.model_type === "bert";
  const [dense, norm, bias] = bert
    ? ["cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"]
    : ["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"];
  const rows = activate(g, linear(g, w, dense, maskedRows(g, encoded.rows), h, h), bert ? config.hidden_act : "gelu");
  const normed = layerNorm(g, w, norm, rows, h, config.layer_norm_eps);
  const table = w.weight(`${prefix}embeddings.word_embeddings.weight`, [config.vocab_size, h]);
  return g.gemm(normed, table, w.weight(bias, [config.vocab_size]), { transB: true });
}
