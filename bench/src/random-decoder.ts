import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  createBuilder,
  createRandom,
  type Model,
  readSafetensors,
  tensorFrom,
  toModel,
  type Value,
  writeSafetensors,
} from "@onnx-peft/core";

export interface DecoderSizes {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly vocabulary: number;
}

/**
 * A decoder in the manner of Llama (RMS norms, gated feed-forward, causal attention, a head over the vocabulary; no rotary
 * positions, which need next to no memory) with random weights in a file. Input ids [batch, sequence], output logits.
 */
export async function randomDecoder(folder: string, sizes: DecoderSizes): Promise<Model> {
  const { hidden, layers, heads, intermediate, vocabulary } = sizes;
  const layer = (i: number): [string, number[]][] => {
    const at = `model.layers.${i}`;
    return [
      ...["q", "k", "v", "o"].map((p): [string, number[]] => [`${at}.self_attn.${p}_proj.weight`, [hidden, hidden]]),
      [`${at}.mlp.gate_proj.weight`, [intermediate, hidden]],
      [`${at}.mlp.up_proj.weight`, [intermediate, hidden]],
      [`${at}.mlp.down_proj.weight`, [hidden, intermediate]],
      [`${at}.input_layernorm.weight`, [hidden]],
      [`${at}.post_attention_layernorm.weight`, [hidden]],
    ];
  };
  const shapes: [string, number[]][] = [
    ["model.embed_tokens.weight", [vocabulary, hidden]],
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    ["model.norm.weight", [hidden]],
    ["lm_head.weight", [vocabulary, hidden]],
  ];
  const random = createRandom(3);
  const file = join(folder, "model.safetensors");
  await mkdir(folder, { recursive: true });
  await writeSafetensors(
    file,
    shapes.map(([name, dims]) => {
      const values = random.fillNormal(
        new Float32Array(dims.reduce((a, b) => a * b, 1)),
        dims.length === 1 ? 1 : 0,
        0.02,
      );
      return [name, tensorFrom("float32", dims, values)] as const;
    }),
  );
  const { tensors } = await readSafetensors(file);
  const g = createBuilder(21);
  const weights = new Map([...tensors].map(([name, tensor]) => [name, g.initializer(name, tensor)]));
  const weight = (name: string): Value => weights.get(`${name}.weight`) as Value;
  const linear = (x: Value, name: string): Value => g.gemm(x, weight(name), null, { transB: true });
  const norm = (x: Value, name: string): Value => g.op("SimplifiedLayerNormalization", [x, weight(name)])[0] as Value;
  const ids = g.input("input_ids", "int64", ["batch", "sequence"]);
  const size = hidden / heads;
  const split = (x: Value): Value => g.transpose(g.reshape(x, ["batch", "sequence", heads, size]), [0, 2, 1, 3]);
  const square = g.op("Trilu", [g.filled(["sequence", "sequence"], -1e9, "float32", ids), g.constant("int64", 1)], {
    upper: 1,
  })[0] as Value;
  let x = g.reshape(g.gather(weight("model.embed_tokens"), ids), ["batch*sequence", hidden]);
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    const a = norm(x, `${at}.input_layernorm`);
    const [q, k, v] = ["q", "k", "v"].map((p) => split(linear(a, `${at}.self_attn.${p}_proj`))) as [
      Value,
      Value,
      Value,
    ];
    const shares = g.softmax(g.add(g.fusedMatMul(q, k, { transB: true, alpha: size ** -0.5 }), square), -1);
    const context = g.reshape(g.transpose(g.matMul(shares, v), [0, 2, 1, 3]), ["batch*sequence", hidden]);
    x = g.add(x, linear(context, `${at}.self_attn.o_proj`));
    const b = norm(x, `${at}.post_attention_layernorm`);
    const gate = linear(b, `${at}.mlp.gate_proj`);
    x = g.add(x, linear(g.mul(g.mul(gate, g.sigmoid(gate)), linear(b, `${at}.mlp.up_proj`)), `${at}.mlp.down_proj`));
  }
  const logits = linear(norm(x, "model.norm"), "lm_head");
  g.output(g.reshape(logits, ["batch", "sequence", vocabulary]), "logits");
  return toModel(g.finish({ name: "decoder" }), g.opset);
}
