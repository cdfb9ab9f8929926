import {
  activate,
  type Builder,
  createBuilder,
  createRandom,
  layerNorm,
  linear,
  type Model,
  type Random,
  type Seed,
  selfAttention,
  type TensorData,
  tensorFrom,
  toModel,
  type Value,
  type WeightReader,
  type Weights,
  weightReader,
} from "@onnx-peft/core";

/** Fields of a ViT's `config.json`, in camelCase. */
export interface VitSizes {
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly classes: number;
}

const EPSILON = 1e-12;
const layerPath = (layer: number): string => `vit.encoder.layer.${layer}`;
const patchesOf = ({ imageSize, patchSize }: VitSizes): number => Math.floor(imageSize / patchSize) ** 2;

/** Tokens of an image: its patches and the class token. */
export const tokensOf = (sizes: VitSizes): number => patchesOf(sizes) + 1;

/** Linear modules of a layer by their path in it, with [out, in]. */
const linears = ({ hiddenSize: h, intermediateSize: i }: VitSizes): Readonly<Record<string, [number, number]>> => ({
  "attention.attention.query": [h, h],
  "attention.attention.key": [h, h],
  "attention.attention.value": [h, h],
  "attention.output.dense": [h, h],
  "intermediate.dense": [i, h],
  "output.dense": [h, i],
});

/** A classifier's weights before training: deviation 0.02, as transformers starts a new head. */
export function initialClassifier({ classes, hiddenSize }: VitSizes, random: Random): [string, TensorData][] {
  const weight = random.fillNormal(new Float32Array(classes * hiddenSize), 0, 0.02);
  return [
    ["classifier.weight", tensorFrom("float32", [classes, hiddenSize], weight)],
    ["classifier.bias", tensorFrom("float32", [classes], new Float32Array(classes))],
  ];
}

/** Weights before training under transformers' names: matrices of variance 1 / in, embeddings of deviation 0.02. */
export function initialVitWeights(sizes: VitSizes, seed: Seed): Map<string, TensorData> {
  const random = createRandom(seed);
  const { hiddenSize, patchSize, channels } = sizes;
  const tensors = new Map<string, TensorData>();
  const put = (name: string, dims: readonly number[], fill: (values: Float32Array) => Float32Array): void => {
    const values = new Float32Array(dims.reduce((a, b) => a * b, 1));
    tensors.set(name, tensorFrom("float32", dims, fill(values)));
  };
  const normal = (std: number) => (values: Float32Array) => random.fillNormal(values, 0, std);
  const module = (path: string, dims: readonly number[]): void => {
    const fanIn = dims.slice(1).reduce((a, b) => a * b, 1);
    put(`${path}.weight`, dims, normal(1 / Math.sqrt(fanIn)));
    put(`${path}.bias`, dims.slice(0, 1), (values) => values);
  };
  const norm = (path: string): void => {
    put(`${path}.weight`, [hiddenSize], (values) => values.fill(1));
    put(`${path}.bias`, [hiddenSize], (values) => values);
  };
  module("vit.embeddings.patch_embeddings.projection", [hiddenSize, channels, patchSize, patchSize]);
  put("vit.embeddings.cls_token", [1, 1, hiddenSize], normal(0.02));
  put("vit.embeddings.position_embeddings", [1, tokensOf(sizes), hiddenSize], normal(0.02));
  for (let layer = 0; layer < sizes.layers; layer++) {
    norm(`${layerPath(layer)}.layernorm_before`);
    norm(`${layerPath(layer)}.layernorm_after`);
    for (const [path, dims] of Object.entries(linears(sizes))) module(`${layerPath(layer)}.${path}`, dims);
  }
  norm("vit.layernorm");
  for (const [name, tensor] of initialClassifier(sizes, random)) tensors.set(name, tensor);
  return tensors;
}

/** Patches, the class token and positions: pixel_values [batch, channels, size, size] to [batch, tokens, hidden]. */
function embeddings(g: Builder, w: WeightReader, pixels: Value, sizes: VitSizes): Value {
  const { hiddenSize, patchSize, channels } = sizes;
  const path = "vit.embeddings.patch_embeddings.projection";
  const projected = g.scoped(path, () =>
    g.conv(
      pixels,
      w.weight(`${path}.weight`, [hiddenSize, channels, patchSize, patchSize]),
      w.weight(`${path}.bias`, [hiddenSize]),
      { strides: patchSize },
    ),
  ); // [batch, hidden, rows, columns]
  const tokens = g.transpose(g.reshape(projected, ["batch", hiddenSize, patchesOf(sizes)]), [0, 2, 1]);
  const first = g.expand(w.weight("vit.embeddings.cls_token", [1, 1, hiddenSize]), ["batch", 1, hiddenSize]);
  return g.add(
    g.concat([first, tokens], 1),
    w.weight("vit.embeddings.position_embeddings", [1, tokensOf(sizes), hiddenSize]),
  );
}

/** One pre-norm layer on rows [batch*tokens, hidden]. */
function block(g: Builder, w: WeightReader, path: string, x: Value, sizes: VitSizes): Value {
  const { hiddenSize, heads, intermediateSize } = sizes;
  const names = {
    query: `${path}.attention.attention.query`,
    key: `${path}.attention.attention.key`,
    value: `${path}.attention.attention.value`,
    output: `${path}.attention.output.dense`,
  };
  const before = layerNorm(g, w, `${path}.layernorm_before`, x, hiddenSize, EPSILON);
  const attended = selfAttention(g, w, names, before, null, "batch", tokensOf(sizes), {
    ...{ hiddenSize, heads, attentionDropout: 0 },
  });
  const y = g.add(attended, x);
  const after = layerNorm(g, w, `${path}.layernorm_after`, y, hiddenSize, EPSILON);
  const up = activate(g, linear(g, w, `${path}.intermediate.dense`, after, hiddenSize, intermediateSize), "gelu");
  return g.add(linear(g, w, `${path}.output.dense`, up, intermediateSize, hiddenSize), y);
}

/**
 * ViT for image classification (Dosovitskiy et al. 2021, arXiv 2010.11929) with transformers' module names and no dropout:
 * pixel_values [batch, channels, size, size] to logits [batch, classes].
 */
export function buildVit(sizes: VitSizes, weights: Weights): Model {
  const { hiddenSize, imageSize, channels, classes, layers } = sizes;
  const g = createBuilder(21);
  const w = weightReader(g, weights);
  const pixels = g.input("pixel_values", "float32", ["batch", channels, imageSize, imageSize]);
  const tokens = tokensOf(sizes);
  let x = g.reshape(embeddings(g, w, pixels, sizes), [`${tokens}*batch`, hiddenSize]);
  for (let layer = 0; layer < layers; layer++) x = block(g, w, layerPath(layer), x, sizes);
  const states = g.reshape(x, ["batch", tokens, hiddenSize]);
  const pooled = layerNorm(g, w, "vit.layernorm", g.gather(states, g.constant("int64", 0), 1), hiddenSize, EPSILON);
  g.output(linear(g, w, "classifier", pooled, hiddenSize, classes), "logits");
  w.check();
  return toModel(g.finish({ name: "vit" }), 21);
}
