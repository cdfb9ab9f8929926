import { attention, type Builder, linear, type TokenRows, type Value, type WeightReader } from "@onnx-peft/core";
import { CAPTION_TOKENS } from "./captions.ts";
import { IMAGE_SIZE } from "./emoji.ts";

export interface DiffusionTransformerSizes {
  readonly patchSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Width of the captions' states. */
  readonly textSize: number;
}

const EPSILON = 1e-6;
/** Sinusoids of a time step. */
const TIME_CHANNELS = 256;

/** Without weights of its own: they come from the time step. */
const plainNorm = (g: Builder, x: Value, size: number): Value =>
  g.layerNormalization(x, g.constant("float32", new Array<number>(size).fill(1)), null, EPSILON);

/** Half cosines, half sines of t / 10000^(i / half), as diffusers orders them: [batch, channels]. */
function timeFeatures(g: Builder, timestep: Value): Value {
  const half = TIME_CHANNELS / 2;
  const frequencies = Array.from({ length: half }, (_, i) => 10_000 ** (-i / half));
  const angles = g.mul(g.unsqueeze(timestep, [1]), g.constant("float32", frequencies, [1, half]));
  return g.concat([g.cos(angles), g.sin(angles)], 1);
}

/** Fixed positions [1, tokens, hidden]: the first half of a width tells the column, the second the row. */
function positions(g: Builder, hiddenSize: number, grid: number): Value {
  const quarter = hiddenSize / 4;
  const wave = (position: number): number[] => {
    const angles = Array.from({ length: quarter }, (_, i) => position / 10_000 ** (i / quarter));
    return [...angles.map(Math.sin), ...angles.map(Math.cos)];
  };
  const values = Array.from({ length: grid * grid }, (_, at) => [...wave(at % grid), ...wave(Math.floor(at / grid))]);
  return g.constant("float32", values.flat(), [1, grid * grid, hiddenSize]);
}

/**
 * PixArt-alpha's transformer (Chen et al. 2023, arXiv 2310.00426) with diffusers' module names: noisy pictures [batch, 3, size, size], time steps
 * [batch] and captions' states [batch, tokens, text] to the noise in the pictures, or whatever it is trained to find. Scales, shifts and gates of all blocks come
 * from one layer over the time step and a table of each block's own.
 */
export function diffusionTransformer(
  g: Builder,
  w: WeightReader,
  captions: { readonly states: Value; readonly bias: Value },
  sizes: DiffusionTransformerSizes,
): Value {
  const { patchSize, hiddenSize: h, layers, heads, textSize } = sizes;
  const grid = IMAGE_SIZE / patchSize;
  const tokens = grid * grid;
  const sample = g.input("sample", "float32", ["batch", 3, IMAGE_SIZE, IMAGE_SIZE]);
  const timestep = g.input("timestep", "float32", ["batch"]);
  /** Between [batch, tokens, hidden], which gates of a picture are multiplied with, and the rows that layers read. */
  const toRows = (x: Value): Value => g.reshape(x, [`${tokens}*batch`, h]);
  const byPicture = (x: Value): Value => g.reshape(x, ["batch", tokens, h]);

  const silu = (x: Value): Value => g.mul(x, g.sigmoid(x));
  const embedder = "adaln_single.emb.timestep_embedder";
  const first = silu(linear(g, w, `${embedder}.linear_1`, timeFeatures(g, timestep), TIME_CHANNELS, h));
  const time = linear(g, w, `${embedder}.linear_2`, first, h, h); // [batch, hidden]
  const shared = g.reshape(linear(g, w, "adaln_single.linear", silu(time), h, 6 * h), ["batch", 6, h]);

  const words = g.reshape(captions.states, [`${CAPTION_TOKENS}*batch`, textSize]);
  const projected = g.gelu(linear(g, w, "caption_projection.linear_1", words, textSize, h), "tanh");
  const context = {
    rows: linear(g, w, "caption_projection.linear_2", projected, h, h),
    tokens: CAPTION_TOKENS,
    width: h,
  };

  const projection = "pos_embed.proj";
  const patches = g.conv(
    sample,
    w.weight(`${projection}.weight`, [h, 3, patchSize, patchSize]),
    w.weight(`${projection}.bias`, [h]),
    { strides: patchSize },
  ); // [batch, hidden, grid, grid]
  let x = g.add(g.transpose(g.reshape(patches, ["batch", h, tokens]), [0, 2, 1]), positions(g, h, grid));
  const scaled = (y: Value, scale: Value, shift: Value): Value =>
    toRows(g.add(g.mul(plainNorm(g, y, h), g.add(1, scale)), shift));
  const attend = (path: string, from: Value, to: TokenRows | null, bias: Value | null): Value => {
    const names = { query: `${path}.to_q`, key: `${path}.to_k`, value: `${path}.to_v`, output: `${path}.to_out.0` };
    const own = { rows: from, tokens, width: h };
    const options = { hiddenSize: h, heads, attentionDropout: 0 };
    return byPicture(attention(g, w, names, own, to ?? own, bias, "batch", options));
  };
  for (let layer = 0; layer < layers; layer++) {
    const path = `transformer_blocks.${layer}`;
    const table = g.add(shared, w.weight(`${path}.scale_shift_table`, [6, h]));
    const [shift1, scale1, gate1, shift2, scale2, gate2] = g.split(table, [1, 1, 1, 1, 1, 1], 1) as [
      ...[Value, Value, Value],
      ...[Value, Value, Value],
    ];
    x = g.add(x, g.mul(gate1, attend(`${path}.attn1`, scaled(x, scale1, shift1), null, null)));
    x = g.add(x, attend(`${path}.attn2`, toRows(x), context, captions.bias));
    const up = g.gelu(linear(g, w, `${path}.ff.net.0.proj`, scaled(x, scale2, shift2), h, 4 * h), "tanh");
    x = g.add(x, g.mul(gate2, byPicture(linear(g, w, `${path}.ff.net.2`, up, 4 * h, h))));
  }
  const last = g.add(g.unsqueeze(time, [1]), w.weight("scale_shift_table", [2, h]));
  const [shift, scale] = g.split(last, [1, 1], 1) as [Value, Value];
  const pixels = linear(g, w, "proj_out", scaled(x, scale, shift), h, 3 * patchSize ** 2);
  const blocks = g.reshape(pixels, ["batch", grid, grid, patchSize, patchSize, 3]);
  return g.reshape(g.transpose(blocks, [0, 5, 1, 3, 2, 4]), ["batch", 3, IMAGE_SIZE, IMAGE_SIZE]);
}
