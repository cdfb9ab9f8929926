import {
  type Builder,
  createBuilder,
  type Model,
  PeftError,
  type TensorData,
  toModel,
  type WeightReader,
  type Weights,
  weightReader,
} from "@onnx-peft/core";
import { bert, bertConfig } from "./bert.ts";
import { distilBert, distilBertConfig } from "./distilbert.ts";
import type { EncoderArchitecture, Head } from "./encoder.ts";

/**
 * The architecture of a Hugging Face `config.json`.
 * @throws PeftError MODEL_TYPE for a type that is not built here, CONFIG_INVALID for wrong fields.
 */
export function architectureOf(config: unknown): EncoderArchitecture {
  const type = typeof config === "object" && config !== null && "model_type" in config ? config.model_type : undefined;
  const parsed =
    type === "distilbert"
      ? distilBertConfig.transform(distilBert).safeParse(config)
      : type === "bert" || type === "roberta" || type === "xlm-roberta"
        ? bertConfig.transform(bert).safeParse(config)
        : null;
  if (!parsed) {
    throw new PeftError(
      "MODEL_TYPE",
      `config.json has model_type "${String(type)}"; bert, roberta, xlm-roberta and distilbert are built here.`,
      {
        hint: "Other encoders can be loaded from their ONNX export (onnx/model.onnx).",
      },
    );
  }
  if (!parsed.success) {
    const problems = parsed.error.issues.map((i) => `${i.path.join(".")}: ${i.message}`);
    throw new PeftError(
      "CONFIG_INVALID",
      `config.json does not describe a ${String(type)} that is built here: ${problems.join("; ")}.`,
    );
  }
  return parsed.data;
}

/**
 * A text encoder as an ONNX model, from config and checkpoint tensors; nothing is copied. Inputs `input_ids`,
 * `attention_mask` [batch, sequence] (and `token_type_ids` for BERT), output `last_hidden_state` or `logits`.
 * Initialisers have the names of transformers' class for the head: those of the bare model when there is none.
 * @throws PeftError MODEL_TYPE, CONFIG_INVALID, CHECKPOINT_MISMATCH
 */
export function buildEncoder(config: unknown, weights: Weights, head: Head = { type: "none" }): Model {
  const architecture = architectureOf(config);
  const g = createBuilder(21);
  const w = encoderWeights(g, weights, architecture.prefix, head);
  const shape = ["batch", "sequence"];
  const inputs = {
    inputIds: g.input("input_ids", "int64", shape),
    attentionMask: g.input("attention_mask", "int64", shape),
    tokenTypeIds: architecture.usesTokenTypes ? g.input("token_type_ids", "int64", shape) : null,
  };
  const encoded = architecture.body(g, w, inputs);
  if (head.type === "none") g.output(encoded.hidden, "last_hidden_state");
  else g.output(architecture.head(g, w, encoded, head), "logits");
  w.check();
  return toModel(g.finish({ name: "encoder", keepDropout: true }), g.opset);
}

/**
 * Reads weights by their names in a model with a head. Without a head they enter the graph as transformers' bare model
 * calls them ("encoder.layer.0", not "bert.encoder.layer.0"): so are modules named in adapters that peft loads into it.
 */
function encoderWeights(g: Builder, weights: Weights, prefix: string, head: Head): WeightReader {
  const full = withFullNames(weights, prefix);
  if (head.type !== "none") return weightReader(g, full);
  const bare = (name: string): string => (name.startsWith(prefix) ? name.slice(prefix.length) : name);
  const reader = weightReader(g, new Map([...full].map(([name, tensor]) => [bare(name), tensor])));
  return { ...reader, weight: (name, dims) => reader.weight(bare(name), dims) };
}

/**
 * Tensors under the names of a model with a head: checkpoints of a bare encoder lack the prefix, and very old ones call
 * LayerNorm's tensors gamma and beta. Names that are full already stay.
 */
export function withFullNames(weights: Weights, prefix: string): Map<string, TensorData> {
  const isBare = ![...weights.keys()].some((name) => name.startsWith(prefix));
  const fullName = (name: string): string => {
    const modern = name.replace(/LayerNorm\.gamma$/, "LayerNorm.weight").replace(/LayerNorm\.beta$/, "LayerNorm.bias");
    return isBare && /^(embeddings|encoder|pooler|transformer)\./.test(modern) ? prefix + modern : modern;
  };
  return new Map([...weights].map(([name, tensor]) => [fullName(name), tensor]));
}
