import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AdapterConfigInput,
  buildAdapterProgram,
  createRandom,
  encodeSafetensors,
  injectAdapter,
  lora,
  type Method,
  methodOf,
} from "@onnx-peft/core";
import { afterAll, expect, test } from "vitest";
import { initialBertWeights } from "../models/initial-weights.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { taskGraph } from "./task-graph.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-branch-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a method at residual branches trains where dropout ends the branch, and the dropout stays", async () => {
  const config = {
    ...{ model_type: "bert", vocab_size: 60, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2 },
    ...{ intermediate_size: 48, max_position_embeddings: 16, type_vocab_size: 2 },
    ...{ hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1 },
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  writeFileSync(join(folder, "model.safetensors"), encodeSafetensors(initialBertWeights(config, createRandom(4), 2)));
  const task = sequenceClassification({ labels: ["a", "b"] });
  const { model } = await loadTextModel({ model: folder }, task.head);
  const dropouts = (method: Method, options: object): number => {
    const given = { method, config: options as AdapterConfigInput, wantedOutputs: ["logits"], training: true };
    const adapted = injectAdapter(model, given);
    return buildAdapterProgram(adapted, task.loss(taskGraph(adapted, task.head))).dropout.length;
  };
  const plain = dropouts(lora as unknown as Method, { targetModules: ["query"] });
  expect(plain).toBeGreaterThan(4);
  expect(dropouts(methodOf("BOTTLENECK"), { placement: "houlsby", reductionFactor: 8 })).toBe(plain);
});
