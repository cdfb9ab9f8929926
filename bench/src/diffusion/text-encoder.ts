import {
  attentionBias,
  type Builder,
  layerNorm,
  linear,
  selfAttention,
  type Value,
  type WeightReader,
} from "@onnx-peft/core";
import { CAPTION_TOKENS } from "./captions.ts";

export interface TextEncoderSizes {
  readonly vocabulary: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
}

const EPSILON = 1e-5;

/** 0 where a token may look, the lowest float for later ones: [tokens, tokens]. */
function causalBias(g: Builder): Value {
  const bias = Array.from({ length: CAPTION_TOKENS ** 2 }, (_, at) =>
    at % CAPTION_TOKENS > Math.floor(at / CAPTION_TOKENS) ? -3.4028234663852886e38 : 0,
  );
  return g.constant("float32", bias, [CAPTION_TOKENS, CAPTION_TOKENS]);
}

/** CLIP's text transformer (Radford et al. 2021, arXiv 2103.00020): captions [batch, tokens] to states [batch, tokens, hidden]. */
export function textEncoder(
  g: Builder,
  w: WeightReader,
  sizes: TextEncoderSizes,
): { readonly states: Value; readonly bias: Value } {
  const { vocabulary, hiddenSize, layers, heads } = sizes;
  const ids = g.input("input_ids", "int64", ["batch", CAPTION_TOKENS]);
  const mask = g.input("attention_mask", "int64", ["batch", CAPTION_TOKENS]);
  const at = "text_model";
  const table = w.weight(`${at}.embeddings.token_embedding.weight`, [vocabulary, hiddenSize]);
  const positions = w.weight(`${at}.embeddings.position_embedding.weight`, [CAPTION_TOKENS, hiddenSize]);
  const causal = causalBias(g);
  let x = g.reshape(g.add(g.gather(table, ids), positions), [`${CAPTION_TOKENS}*batch`, hiddenSize]);
  for (let layer = 0; layer < layers; layer++) {
    const path = `${at}.encoder.layers.${layer}`;
    const names = {
      ...{ query: `${path}.self_attn.q_proj`, key: `${path}.self_attn.k_proj`, value: `${path}.self_attn.v_proj` },
      output: `${path}.self_attn.out_proj`,
    };
    const before = layerNorm(g, w, `${path}.layer_norm1`, x, hiddenSize, EPSILON);
    const attended = selfAttention(g, w, names, before, causal, "batch", CAPTION_TOKENS, {
      ...{ hiddenSize, heads, attentionDropout: 0 },
    });
    const y = g.add(x, attended);
    const after = layerNorm(g, w, `${path}.layer_norm2`, y, hiddenSize, EPSILON);
    const up = g.gelu(linear(g, w, `${path}.mlp.fc1`, after, hiddenSize, 4 * hiddenSize));
    x = g.add(y, linear(g, w, `${path}.mlp.fc2`, up, 4 * hiddenSize, hiddenSize));
  }
  const states = layerNorm(g, w, `${at}.final_layer_norm`, x, hiddenSize, EPSILON);
  return { states: g.reshape(states, ["batch", CAPTION_TOKENS, hiddenSize]), bias: attentionBias(g, mask) };
}
