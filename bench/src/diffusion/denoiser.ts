import {
  type Builder,
  createBuilder,
  createRandom,
  type Model,
  type RuntimeTensor,
  type Seed,
  streamSeed,
  toModel,
  type Value,
  type WeightReader,
  type Weights,
  weightReader,
} from "@onnx-peft/core";
import { type DiffusionTransformerSizes, diffusionTransformer } from "./diffusion-transformer.ts";
import { type TextEncoderSizes, textEncoder } from "./text-encoder.ts";

/** 64 patches of a picture, four blocks of PixArt's kind: 1.2 M weights. */
const picture: DiffusionTransformerSizes = { patchSize: 4, hiddenSize: 128, layers: 4, heads: 4, textSize: 128 };
/** Two layers of CLIP's kind over words. */
const text: Omit<TextEncoderSizes, "vocabulary"> = { hiddenSize: 128, layers: 2, heads: 4 };

/** The velocity of `sample` by what `input_ids` say. */
export const buildDenoiser = (g: Builder, w: WeightReader, vocabulary: number): Value =>
  diffusionTransformer(g, w, textEncoder(g, w, { ...text, vocabulary }), picture);

/** A model of text encoder and denoiser: sample, timestep, input_ids, attention_mask to out_sample. */
export function denoiserModel(weights: Weights, vocabulary: number): Model {
  const g = createBuilder(21);
  const w = weightReader(g, weights);
  g.output(buildDenoiser(g, w, vocabulary), "out_sample");
  w.check();
  return toModel(g.finish({ name: "denoiser" }), 21);
}

/**
 * A weight before training: norms are the identity, matrices keep the size of what they map; cross-attention and the last layer begin at zero, and so
 * do scales, shifts and gates but for a small table, as in DiT (Peebles and Xie 2023).
 */
export function initialWeight(name: string, dims: readonly number[], seed: Seed): RuntimeTensor {
  const size = dims.reduce((a, b) => a * b, 1);
  const data = new Float32Array(size);
  const random = createRandom(streamSeed(seed, name));
  const startsAtZero = /(attn2\.to_out\.0|proj_out|adaln_single\.linear)\.weight$|bias$/.test(name);
  if (/norm\d?\.weight$/.test(name)) data.fill(1);
  else if (name.includes("position_embedding")) random.fillNormal(data, 0, 0.1);
  else if (name.includes("token_embedding")) random.fillNormal(data, 0, 0.5);
  else if (name.endsWith("scale_shift_table")) random.fillNormal(data, 0, 1 / Math.sqrt(picture.hiddenSize));
  else if (!startsAtZero) random.fillNormal(data, 0, Math.sqrt((dims[0] as number) / size));
  return { type: "float32", dims, data };
}
