import { expect, test } from "vitest";
import { loraPlusGroups } from "./lora-plus.ts";
import { createOptimizer } from "./optimizer.ts";

const parameters = [
  { name: "layer.0.query.lora_A.weight", shape: [8, 64] },
  { name: "layer.0.query.lora_B.weight", shape: [64, 8] },
  { name: "layer.0.query.bias", shape: [64] },
  { name: "embeddings.lora_embedding_A", shape: [8, 1000] },
  { name: "embeddings.lora_embedding_B", shape: [64, 8] },
  { name: "classifier.weight", shape: [2, 64] },
];

test("B and vectors learn ratio times faster, embeddings slowly, vectors are not decayed", () => {
  expect(loraPlusGroups(parameters, { learningRate: 1e-4, weightDecay: 0.01 })).toEqual([
    { names: ["embeddings.lora_embedding_A", "embeddings.lora_embedding_B"], learningRate: 1e-6, weightDecay: 0.01 },
    { names: ["layer.0.query.lora_B.weight"], learningRate: 1.6e-3, weightDecay: 0.01 },
    { names: ["layer.0.query.bias"], learningRate: 1.6e-3, weightDecay: 0 },
    { names: ["layer.0.query.lora_A.weight", "classifier.weight"], learningRate: 1e-4, weightDecay: 0.01 },
  ]);
});

test("the groups cover every parameter once, so that an optimiser takes them", () => {
  const tensors = new Map(parameters.map(({ name }) => [name, Float32Array.of(1)]));
  const groups = loraPlusGroups(parameters, { learningRate: 0.1, ratio: 4 });
  expect(groups.flatMap((group) => group.names).sort()).toEqual([...tensors.keys()].sort());
  const optimizer = createOptimizer({ type: "sgd", learningRate: 1 }, tensors, groups);
  optimizer.step(new Map(parameters.map(({ name }) => [name, Float32Array.of(1)])));
  expect(tensors.get("layer.0.query.lora_B.weight")![0]).toBeCloseTo(0.6);
  expect(tensors.get("layer.0.query.lora_A.weight")![0]).toBeCloseTo(0.9);
});
