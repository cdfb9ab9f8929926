import { type AdapterConfigInput, bitfit, full, lnTuning, lora, type Method, PeftError } from "@onnx-peft/core";
import { describe, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { largestDifference, relativeDifference } from "./testing/compare.ts";
import { floatsOf, goldenPath, readGolden, readGoldenJson, underPrefix } from "./testing/golden.ts";
import { goldenTask, measure } from "./testing/models.ts";

interface About {
  readonly lora: { readonly config: { r: number; lora_alpha: number; target_modules: string[] } };
}

/** Groups of gradients in the golden files, and how they come about here. */
const groups: Readonly<Record<string, { method: Method; config: AdapterConfigInput }>> = {
  bitfit: { method: bitfit, config: {} },
  norm: { method: lnTuning, config: {} },
  head: { method: full, config: { modulesToSave: ["classifier"] } },
  full: { method: full, config: { targetModules: ".*" } },
};

/** peft's names of gradients, from those of parameters here. */
const named = (gradients: ReadonlyMap<string, Float32Array>, rename: (name: string) => string) =>
  new Map([...gradients].map(([name, values]) => [rename(name), values]));

/** Built from config.json and model.safetensors; the exports of the same models are tested in core/src/adapters. */
describe.each(["bert", "bert-token", "bert-model", "distilbert", "roberta", "xlm-roberta"])("%s", (name) => {
  const task = goldenTask(name);
  const load = () => loadTextModel({ model: goldenPath("models", name) }, task.head);
  const output = name === "bert-model" ? "last_hidden_state" : "logits";
  // BertModel has a pooler that hidden states do not depend on: peft's file says gradient zero, the graph has none.
  const isUnused = (parameter: string): boolean => name === "bert-model" && parameter.startsWith("pooler.");
  const ours = (parameter: string): string => parameter.replace("ln_tuning_layers.", "");

  test("nothing of the checkpoint is made up", async () => {
    expect((await load()).initialized).toEqual([]);
  });

  test("with LoRA: output, loss and adapter gradients", async () => {
    const tensors = await readGolden(`${name}.safetensors`);
    const { r, lora_alpha, target_modules } = (readGoldenJson(`${name}.json`) as About).lora.config;
    const toPeftName = (parameter: string): string => `base_model.model.${parameter}`;
    const config = { r, alpha: lora_alpha, targetModules: target_modules };
    const values = underPrefix(tensors, "lora.adapter.base_model.model.");
    const found = await measure(await load(), task, lora, config, tensors, values);
    expect(largestDifference(found.output, floatsOf(tensors, `lora.output.${output}`))).toBeLessThan(1e-5);
    expect(largestDifference(Float32Array.of(found.loss), floatsOf(tensors, "lora.loss"))).toBeLessThan(1e-5);
    const difference = relativeDifference(named(found.gradients, toPeftName), underPrefix(tensors, "lora.grad."));
    expect(difference).toBeLessThan(1e-5);
  });

  test.each(Object.keys(groups))("%s: output, loss and gradients", async (group) => {
    const tensors = await readGolden(`${name}.safetensors`);
    const { method, config } = groups[group]!;
    const expected = new Map([...underPrefix(tensors, `${group}.grad.`)].filter(([key]) => !isUnused(key)));
    if (expected.size === 0) {
      // Hidden states have no head: asking for one must say so.
      await expect(measure(await load(), task, method, config, tensors)).rejects.toThrow(PeftError);
      return;
    }
    const found = await measure(await load(), task, method, config, tensors);
    expect(largestDifference(found.output, floatsOf(tensors, `output.${output}`))).toBeLessThan(1e-5);
    expect(largestDifference(Float32Array.of(found.loss), floatsOf(tensors, "loss"))).toBeLessThan(1e-5);
    expect(relativeDifference(named(found.gradients, ours), expected)).toBeLessThan(1e-5);
  });
});
