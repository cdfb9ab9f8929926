import type { Model } from "../onnx/ir.ts";

/** Weights of ONNX Runtime's GenAI builder carry the operator that reads them: "model.layers.0.attn.q_proj.MatMul.weight". */
const ownWeight = /\.attn\.\w+\.MatMul(?:NBits)?\.q?weight/;

const isGenAi = (model: Model): boolean =>
  model.producer.name === "onnxruntime-genai" ||
  [...model.graph.initializers.keys()].some((name) => ownWeight.test(name));

const renamings: readonly (readonly [RegExp, string])[] = [
  [/^(.*\blayers\.\d+)\.attn\.(.+)$/, "$1.self_attn.$2"],
  [/^(.*\b[qk]_norm)\.layernorm$/i, "$1"],
  [/^((?:.*\.)?)layers\.\d+\.final_norm_layernorm$/, "$1norm"],
];

/**
 * The builder calls modules alike in all models: "model.layers.0.attn.q_proj" is Hugging Face's "model.layers.0.self_attn.q_proj",
 * and the last norm, "model.norm", is written as one of a further layer. Names of other files stay as they are.
 */
export function genAiRenaming(model: Model): (name: string) => string {
  if (!isGenAi(model)) return (name) => name;
  return (name) => renamings.reduce((current, [pattern, to]) => current.replace(pattern, to), name);
}
