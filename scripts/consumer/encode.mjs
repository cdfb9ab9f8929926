// What a user's project does with the packed text package: an encoder from a config and weights, run on ONNX Runtime.
import assert from "node:assert/strict";
import { createRandom, encodeModel, onnxruntimeNode, streamSeed, tensorFrom } from "@onnx-peft/core";
import { buildEncoder } from "@onnx-peft/text";

const [vocabulary, hidden, inner, positions] = [20, 8, 16, 12];
const config = {
  model_type: "bert",
  vocab_size: vocabulary,
  hidden_size: hidden,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: inner,
  max_position_embeddings: positions,
};
const random = createRandom(streamSeed(1, "weights"));
const weights = new Map();
const add = (name, dims, std) => {
  const values = random.fillNormal(new Float32Array(dims.reduce((a, b) => a * b, 1)), 0, std);
  weights.set(name, tensorFrom("float32", dims, values));
};
const linear = (name, out, size) => {
  add(`${name}.weight`, [out, size], 0.1);
  add(`${name}.bias`, [out], 0.1);
};
const norm = (name) => {
  weights.set(`${name}.weight`, tensorFrom("float32", [hidden], new Float32Array(hidden).fill(1)));
  add(`${name}.bias`, [hidden], 0.1);
};
add("embeddings.word_embeddings.weight", [vocabulary, hidden], 0.5);
add("embeddings.position_embeddings.weight", [positions, hidden], 0.5);
add("embeddings.token_type_embeddings.weight", [2, hidden], 0.5);
norm("embeddings.LayerNorm");
const layer = "encoder.layer.0";
for (const part of ["self.query", "self.key", "self.value", "output.dense"]) {
  linear(`${layer}.attention.${part}`, hidden, hidden);
}
norm(`${layer}.attention.output.LayerNorm`);
linear(`${layer}.intermediate.dense`, inner, hidden);
linear(`${layer}.output.dense`, hidden, inner);
norm(`${layer}.output.LayerNorm`);
linear("pooler.dense", hidden, hidden);
linear("classifier", 3, hidden);

const model = buildEncoder(config, weights, { type: "sequence-classification", labels: 3 });
const session = await onnxruntimeNode.open(encodeModel(model));
const int64 = (values) => ({ type: "int64", dims: [2, values.length / 2], data: BigInt64Array.from(values, BigInt) });
const { logits } = await session.run({
  input_ids: int64([1, 5, 7, 2, 1, 9, 2, 0]),
  attention_mask: int64([1, 1, 1, 1, 1, 1, 1, 0]),
  token_type_ids: int64([0, 0, 0, 0, 0, 0, 0, 0]),
});
await session.close();
assert.deepEqual([...logits.dims], [2, 3]);
assert.ok(logits.data.every(Number.isFinite));
console.log("text ok");
