import { createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { testRandom } from "../../testing/check-gradient.ts";

export const tinySizes = { vocabulary: 11, hidden: 8, intermediate: 12, labels: 3, heads: 2, layers: 2 } as const;

/**
 * A transformer encoder with a classifier, written by hand as exporters write it: folded [in, out] weights without names
 * behind TorchScript node names (query, key), Gemm with transB (value, output), the bias on the left of Add (up), a
 * transposed initialiser (down), a shared zero bias (query and key), one norm as an operator and one in parts.
 * Inputs: input_ids [batch, tokens] (int64). Outputs: logits [batch, labels], hidden [batch, tokens, hidden].
 */
export function tinyModel(seed = 3): Model {
  const { vocabulary, hidden, intermediate, labels, heads, layers } = tinySizes;
  const random = testRandom(seed);
  const g = createBuilder(17);
  const weight = (name: string, dims: readonly number[], scale = 0.6, shift = 0): Value =>
    g.initializer(
      name,
      tensorFrom(
        "float32",
        dims,
        Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => shift + scale * (random() * 2 - 1)),
      ),
    );
  const named = (path: string, op: string, inputs: Value[], attributes = {}): Value =>
    g.op(op, inputs, attributes, { name: `/${path.replace(/\.(?!\d)/g, "/")}/${op}` })[0] as Value;
  const ids = g.input("input_ids", "int64", ["batch", "tokens"]);
  const sharedBias = weight("shared.zero_bias", [hidden], 0.1);
  let x = g.op(
    "Gather",
    [weight("encoder.embeddings.word_embeddings.weight", [vocabulary, hidden]), ids],
    { axis: 0 },
    { name: "/encoder/embeddings/word_embeddings/Gather" },
  )[0] as Value;
  const flat = (v: Value, width: number): Value => g.op("Reshape", [v, g.ints([-1, width])])[0] as Value;
  for (let layer = 0; layer < layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const matMul = (path: string, bias: Value, size: [number, number]): Value =>
      named(path, "Add", [named(path, "MatMul", [x, weight(`onnx::MatMul_${path}`, size)]), bias]);
    const split = (v: Value): Value =>
      g.transpose(g.reshape(v, ["batch", "tokens", heads, hidden / heads]), [0, 2, 1, 3]);
    const query = matMul(`${at}.attention.self.query`, sharedBias, [hidden, hidden]);
    const key = matMul(`${at}.attention.self.key`, sharedBias, [hidden, hidden]);
    const gemm = (path: string, v: Value, size: [number, number]): Value =>
      named(path, "Gemm", [v, weight(`${path}.weight`, size), weight(`${path}.bias`, [size[0]])], { transB: 1 });
    const value = gemm(`${at}.attention.self.value`, flat(x, hidden), [hidden, hidden]);
    const scores = g.mul(g.matMul(split(query), g.transpose(split(key), [0, 1, 3, 2])), 0.5);
    const context = g.transpose(
      g.matMul(g.softmax(scores), split(g.reshape(value, ["batch", "tokens", hidden]))),
      [0, 2, 1, 3],
    );
    const attended = gemm(`${at}.attention.output.dense`, flat(context, hidden), [hidden, hidden]);
    const sum = g.add(g.reshape(attended, ["batch", "tokens", hidden]), x);
    const norm = `${at}.attention.output.LayerNorm`;
    const a = g.op(
      "LayerNormalization",
      [sum, weight(`${norm}.weight`, [hidden], 0.2, 1), weight(`${norm}.bias`, [hidden])],
      { axis: -1 },
      { name: `/${norm.replace(/\.(?!\d)/g, "/")}/LayerNormalization` },
    )[0] as Value;
    const up = `${at}.intermediate.dense`;
    const h = g.add(
      weight(`${up}.bias`, [intermediate]),
      named(up, "MatMul", [a, weight(`onnx::MatMul_${up}`, [hidden, intermediate])]),
    );
    const down = `${at}.output.dense`;
    const turned = g.transpose(weight(`${down}.weight`, [hidden, intermediate]), [1, 0]);
    const y = g.add(g.add(named(down, "MatMul", [g.tanh(h), turned]), weight(`${down}.bias`, [hidden])), a);
    const mean = g.reduceMean(g.mul(y, y), [-1]);
    const scaled = g.div(y, g.sqrt(g.add(mean, 1e-5)));
    x = g.mul(weight(`${at}.output.norm.weight`, [hidden], 0.2, 1), scaled);
  }
  g.output(x, "hidden");
  const first = g.squeeze(g.slice(x, [0], [1], [1]), [1]); // [batch, hidden]
  g.output(
    named(
      "classifier",
      "Gemm",
      [first, weight("classifier.weight", [labels, hidden]), weight("classifier.bias", [labels])],
      { transB: 1 },
    ),
    "logits",
  );
  return toModel(g.finish({ name: "tiny" }), 17);
}
