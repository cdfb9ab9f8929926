import type { Builder } from "../graph/builder.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import type { WeightReader } from "./weights.ts";

/** Sizes and probabilities of a transformer encoder. */
export interface EncoderSizes {
  readonly hiddenSize: number;
  readonly heads: number;
  readonly intermediateSize: number;
  readonly layerNormEps: number;
  readonly hiddenDropout: number;
  readonly attentionDropout: number;
  /** Dropout after the attention's output layer; default `hiddenDropout`. DistilBERT has none. */
  readonly attentionOutputDropout?: number;
  readonly activation: "gelu" | "gelu_new" | "relu";
}

/** Module paths of one layer's weights. */
export interface EncoderNames {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  readonly attentionNorm: string;
  readonly up: string;
  readonly down: string;
  readonly outputNorm: string;
}

/** y = x·Wᵀ + b for x [rows, in] and W [out, in], as one Gemm. */
export function linear(
  g: Builder,
  w: WeightReader,
  name: string,
  x: Value,
  inFeatures: number,
  outFeatures: number,
): Value {
  return g.scoped(name, () =>
    g.gemm(x, w.weight(`${name}.weight`, [outFeatures, inFeatures]), w.weight(`${name}.bias`, [outFeatures]), {
      transB: true,
    }),
  );
}

export function layerNorm(g: Builder, w: WeightReader, name: string, x: Value, size: number, epsilon: number): Value {
  return g.scoped(name, () =>
    g.layerNormalization(x, w.weight(`${name}.weight`, [size]), w.weight(`${name}.bias`, [size]), epsilon),
  );
}

/** A Dropout node: the identity in inference, a masked product in training graphs. */
export function dropoutNode(g: Builder, x: Value, probability: number): Value {
  return probability === 0 ? x : (g.op("Dropout", [x, g.constant("float32", probability)])[0] as Value);
}

export function activate(g: Builder, x: Value, activation: EncoderSizes["activation"]): Value {
  if (activation === "relu") return g.relu(x);
  return g.gelu(x, activation === "gelu_new" ? "tanh" : "none");
}

/** States of a batch as rows [batch*tokens, width]. */
export interface TokenRows {
  readonly rows: Value;
  readonly tokens: Dim;
  readonly width: number;
}

/** Module paths of an attention's linear layers. */
export type AttentionNames = Pick<EncoderNames, "query" | "key" | "value" | "output">;
type AttentionSizes = Pick<EncoderSizes, "hiddenSize" | "heads" | "attentionDropout">;

/**
 * Multi-head attention of tokens to those of a context, its output layer included: rows [batch*tokens, hidden].
 * @param bias additive mask, broadcast to [batch, heads, tokens, context's tokens]; null: every token sees the whole context.
 */
export function attention(
  g: Builder,
  w: WeightReader,
  names: AttentionNames,
  x: TokenRows,
  context: TokenRows,
  bias: Value | null,
  batch: Dim,
  { hiddenSize, heads, attentionDropout }: AttentionSizes,
): Value {
  const headSize = hiddenSize / heads;
  const split = (name: string, { rows, tokens, width }: TokenRows): Value => {
    const y = linear(g, w, name, rows, width, hiddenSize); // [batch*tokens, hidden]
    return g.transpose(g.reshape(y, [batch, tokens, heads, headSize]), [0, 2, 1, 3]); // [batch, heads, tokens, headSize]
  };
  const [q, k, v] = [split(names.query, x), split(names.key, context), split(names.value, context)];
  const scores = g.fusedMatMul(q, k, { transB: true, alpha: 1 / Math.sqrt(headSize) });
  const shares = dropoutNode(g, g.softmax(bias ? g.add(scores, bias) : scores, -1), attentionDropout);
  const mixed = g.transpose(g.matMul(shares, v), [0, 2, 1, 3]); // [batch, tokens, heads, headSize]
  const [joined] = g.op("Reshape", [mixed, g.ints([-1, hiddenSize])]);
  return linear(g, w, names.output, joined as Value, hiddenSize, hiddenSize);
}

/** {@link attention} of rows [batch*tokens, hidden] to themselves. */
export function selfAttention(
  g: Builder,
  w: WeightReader,
  names: AttentionNames,
  x: Value,
  bias: Value | null,
  batch: Dim,
  tokens: Dim,
  sizes: AttentionSizes,
): Value {
  const states = { rows: x, tokens, width: sizes.hiddenSize };
  return attention(g, w, names, states, states, bias, batch, sizes);
}

/** One post-norm encoder layer (BERT): rows [batch*tokens, hidden] to the same. Vaswani et al. 2017, Devlin et al. 2018. */
export function encoderBlock(
  g: Builder,
  w: WeightReader,
  names: EncoderNames,
  x: Value,
  bias: Value,
  batch: Dim,
  tokens: Dim,
  sizes: EncoderSizes,
): Value {
  const { hiddenSize, intermediateSize, layerNormEps } = sizes;
  const attended = dropoutNode(
    g,
    selfAttention(g, w, names, x, bias, batch, tokens, sizes),
    sizes.attentionOutputDropout ?? sizes.hiddenDropout,
  );
  const a = layerNorm(g, w, names.attentionNorm, g.add(attended, x), hiddenSize, layerNormEps);
  const up = activate(g, linear(g, w, names.up, a, hiddenSize, intermediateSize), sizes.activation);
  const down = dropoutNode(g, linear(g, w, names.down, up, intermediateSize, hiddenSize), sizes.hiddenDropout);
  return layerNorm(g, w, names.outputNorm, g.add(down, a), hiddenSize, layerNormEps);
}

/** Additive attention mask [batch, 1, 1, tokens] from 1/0 flags [batch, tokens]: 0 where attended, the lowest float elsewhere. */
export function attentionBias(g: Builder, attentionMask: Value): Value {
  const flags = g.unsqueeze(g.cast(attentionMask, "float32"), [1, 2]);
  return g.mul(g.sub(1, flags), -3.4028234663852886e38);
}
