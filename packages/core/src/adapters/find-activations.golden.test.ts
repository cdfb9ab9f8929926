import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { prepareModel } from "../lowering/lower-model.ts";
import { readModel } from "../onnx/read.ts";
import { type ActivationSite, findActivations } from "./find-activations.ts";
import { findSites } from "./sites.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));

async function activationsOf(file: string): Promise<ActivationSite[]> {
  const model = prepareModel(await readModel(join(golden, file), { rangeThreshold: 0 }));
  return findActivations(model, findSites(model));
}

const layers = (count: number, name: (i: number) => string): string[] =>
  Array.from({ length: count }, (_, i) => name(i));
const t5 = [
  ...layers(2, (i) => `encoder.block.${i}.layer.1.DenseReluDense.wi`),
  ...layers(2, (i) => `decoder.block.${i}.layer.2.DenseReluDense.wi`),
];
const bert = layers(2, (i) => `bert.encoder.layer.${i}.intermediate.dense`);
const gates = layers(2, (i) => `model.layers.${i}.mlp.gate_proj`);

test.each([
  ["exports/t5/model_dynamo.onnx", t5, 64],
  ["exports/t5/model_torchscript14.onnx", t5, 64],
  ["exports/vit/model_optimized.onnx", layers(2, (i) => `vit.layers.${i}.mlp.fc1`), 64],
  ["exports/whisper-encoder/model_torchscript17.onnx", layers(2, (i) => `layers.${i}.fc1`), 64],
  ["exports/modernbert/model_dynamo.onnx", layers(2, (i) => `layers.${i}.mlp.Wi`), 64],
  ["exports/albert/model_dynamo.onnx", layers(2, () => "encoder.albert_layer_groups.0.albert_layers.0.ffn"), 64],
  ["exports/resnet/model_dynamo.onnx", [], 0],
  ["quantized/bert/model.onnx", bert, 128],
  ["quantized/bert/model_fp16.onnx", bert, 128],
  ["quantized/bert/model_quantized.onnx", bert, 128],
  ["quantized/bert/model_static_qdq.onnx", bert, 128],
  ["quantized/llama/model.onnx", gates, 128],
  ["quantized/llama/model_q4f16.onnx", gates, 128],
])("%s", async (file, names, width) => {
  const found = await activationsOf(file);
  expect(found.map((a) => a.name)).toEqual(names);
  expect(new Set(found.map((a) => a.activation)).size).toBe(names.length);
  expect(found.every((a) => a.width === width)).toBe(true);
});

test("poolers and heads are no feed-forward blocks", () => {
  const model = prepareModel(tinyModel());
  expect(findActivations(model, findSites(model)).map((a) => a.name)).toEqual([
    "encoder.layer.0.intermediate.dense",
    "encoder.layer.1.intermediate.dense",
  ]);
});

test("a gated block has the product of activation and up-projection behind its activation", async () => {
  const model = prepareModel(await readModel(join(golden, "quantized/llama/model.onnx"), { rangeThreshold: 0 }));
  for (const { activation, product } of findActivations(model, findSites(model))) {
    const maker = model.graph.nodes.find((node) => node.outputs.includes(product));
    expect(maker?.op).toBe("Mul");
    expect(maker?.inputs).toContain(activation);
  }
});
