import {
  attentionBias,
  type Builder,
  createBuilder,
  type EncoderNames,
  type EncoderSizes,
  encoderBlock,
  layerNorm,
  type Model,
  normalizeRows,
  toModel,
  type Value,
  type WeightReader,
  type Weights,
  weightReader,
} from "@onnx-peft/core";
import { CAPTION_TOKENS, VOCABULARY } from "./captions.ts";
import { IMAGE_SIZE } from "./render-scene.ts";

const PATCH = 8;
const PATCHES = (IMAGE_SIZE / PATCH) ** 2;
const LAYERS = 3;
const towerSizes: EncoderSizes = {
  ...{ hiddenSize: 64, heads: 4, intermediateSize: 128, layerNormEps: 1e-5, activation: "gelu" },
  ...{ hiddenDropout: 0, attentionDropout: 0 },
};
/** Size of the embeddings that both towers share. */
const EMBEDDING = 32;

const namesOf = (tower: string, layer: number): EncoderNames => {
  const at = `${tower}.encoder.layers.${layer}`;
  return {
    ...{ query: `${at}.self_attn.q_proj`, key: `${at}.self_attn.k_proj`, value: `${at}.self_attn.v_proj` },
    ...{ output: `${at}.self_attn.out_proj`, attentionNorm: `${at}.layer_norm1` },
    ...{ up: `${at}.mlp.fc1`, down: `${at}.mlp.fc2`, outputNorm: `${at}.layer_norm2` },
  };
};

/** Positions are added, then post-norm layers (CLIP's are pre-norm): [rows, tokens, hidden] to the same. */
function encode(g: Builder, w: WeightReader, tower: string, x: Value, tokens: number, bias: Value): Value {
  const { hiddenSize, layerNormEps } = towerSizes;
  const [rows = "rows"] = x.shape;
  const positions = w.weight(`${tower}.embeddings.position_embedding.weight`, [tokens, hiddenSize]);
  const flat = g.reshape(g.add(x, positions), [`${tokens}*${rows}`, hiddenSize]);
  let states = layerNorm(g, w, `${tower}.pre_layernorm`, flat, hiddenSize, layerNormEps);
  for (let layer = 0; layer < LAYERS; layer++)
    states = encoderBlock(g, w, namesOf(tower, layer), states, bias, rows, tokens, towerSizes);
  return g.reshape(states, [rows, tokens, hiddenSize], x);
}

/** y = x·Wᵀ without a bias: CLIP's projections. */
const project = (g: Builder, w: WeightReader, name: string, x: Value): Value =>
  g.scoped(name, () =>
    g.gemm(x, w.weight(`${name}.weight`, [EMBEDDING, towerSizes.hiddenSize]), null, { transB: true }),
  );

/** Images [images, 3, size, size] to embeddings [images, embedding]: patches, a transformer, the mean of its states. */
function imageTower(g: Builder, w: WeightReader): Value {
  const { hiddenSize } = towerSizes;
  const pixels = g.input("pixel_values", "float32", ["images", 3, IMAGE_SIZE, IMAGE_SIZE]);
  const filters = w.weight("vision_model.embeddings.patch_embedding.weight", [hiddenSize, 3, PATCH, PATCH]);
  const patches = g.conv(pixels, filters, null, { strides: [PATCH, PATCH] }); // [images, hidden, 4, 4]
  const rows = g.transpose(g.reshape(patches, ["images", hiddenSize, PATCHES], pixels), [0, 2, 1]);
  const states = encode(g, w, "vision_model", rows, PATCHES, g.constant("float32", 0));
  return project(g, w, "visual_projection", g.reduceMean(states, [1], false));
}

/** Captions [texts, tokens] to embeddings [texts, embedding]: a transformer, the mean of its states without padding. */
function textTower(g: Builder, w: WeightReader): Value {
  const { hiddenSize } = towerSizes;
  const [ids, mask] = [
    g.input("input_ids", "int64", ["texts", CAPTION_TOKENS]),
    g.input("attention_mask", "int64", ["texts", CAPTION_TOKENS]),
  ];
  const table = w.weight("text_model.embeddings.token_embedding.weight", [VOCABULARY, hiddenSize]);
  const states = encode(g, w, "text_model", g.gather(table, ids), CAPTION_TOKENS, attentionBias(g, mask));
  const flags = g.unsqueeze(g.cast(mask, "float32"), [2]);
  const sum = g.reduceSum(g.mul(states, flags), [1], false);
  return project(g, w, "text_projection", g.div(sum, g.reduceSum(flags, [1], false)));
}

/** Cosines are divided by it, in pre-training and afterwards. */
export const TEMPERATURE = 0.07;

/** Both towers, with weights from a reader: embeddings of length 1. */
export const buildTowers = (g: Builder, w: WeightReader): { readonly images: Value; readonly texts: Value } => ({
  images: normalizeRows(g, imageTower(g, w)),
  texts: normalizeRows(g, textTower(g, w)),
});

/** A model of both towers: the scores [images, texts] of every caption for every image. */
export function towerModel(weights: Weights): Model {
  const g = createBuilder(21);
  const w = weightReader(g, weights);
  const { images, texts } = buildTowers(g, w);
  g.output(g.gemm(images, texts, null, { transB: true, alpha: 1 / TEMPERATURE }), "logits_per_image");
  w.check();
  return toModel(g.finish({ name: "towers" }), 21);
}
