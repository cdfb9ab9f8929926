import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import type { Builder } from "../graph/builder.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { multipleNegatives } from "../losses/multiple-negatives.ts";
import { bitfit } from "../methods/bitfit.ts";
import { full } from "../methods/full.ts";
import { lnTuning } from "../methods/ln-tuning.ts";
import { lora } from "../methods/lora.ts";
import type { Method } from "../methods/method.ts";
import type { TensorData, Value } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { initialParameters } from "./adapter.ts";
import { injectAdapter, trainableValues } from "./inject.ts";
import type { AdapterConfigInput } from "./select.ts";

/** Gradients of PyTorch over the golden models; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const names = ["bert", "bert-token", "bert-model", "distilbert", "roberta", "xlm-roberta", "gpt2", "llama"];
const files = names.flatMap((name) =>
  readdirSync(join(golden, "models", name, "onnx")).map((file) => ({ name, file })),
);

/** The loss that the golden file's JSON describes. */
function lossOf(g: Builder, name: string, outputs: ReadonlyMap<string, Value>): Value {
  if (name === "bert-model") {
    const hidden = outputs.get("last_hidden_state")!;
    const mask = g.unsqueeze(g.cast(g.value("attention_mask"), "float32"), [2]);
    const pooled = g.div(g.reduceSum(g.mul(hidden, mask), [1], false), g.reduceSum(mask, [1], false));
    const [anchors, positives] = [g.slice(pooled, [0], [3], [0]), g.slice(pooled, [3], [6], [0])];
    const { sum, weight } = multipleNegatives(g, { anchors, positives });
    return g.div(sum, weight);
  }
  const logits = outputs.get("logits")!;
  const isCausal = name === "gpt2" || name === "llama";
  const labels = g.input("labels", "int64", logits.shape.slice(0, -1));
  const parts = isCausal
    ? crossEntropy(g, { logits: g.slice(logits, [0], [-1], [1]), labels: g.slice(labels, [1], [100], [1]) })
    : crossEntropy(g, { logits, labels });
  return g.div(parts.sum, parts.weight);
}

/** Groups of golden gradients, how they come about here, and the key of a parameter in the file. */
const groups: Readonly<Record<string, { method: Method; config: AdapterConfigInput }>> = {
  lora: { method: lora, config: {} },
  bitfit: { method: bitfit, config: {} },
  norm: { method: lnTuning, config: {} },
  full: { method: full, config: { targetModules: ".*" } },
};
const fileKey = (group: string, name: string): string =>
  group === "lora" ? `lora.grad.base_model.model.${name}` : `${group}.grad.${name.replace("ln_tuning_layers.", "")}`;

async function gradientsOf(name: string, file: string, group: string, tensors: ReadonlyMap<string, TensorData>) {
  const model = await readModel(join(golden, "models", name, "onnx", file));
  const { method, config } = groups[group]!;
  const about = JSON.parse(readFileSync(join(golden, `${name}.json`), "utf8")).lora.config;
  const own = group === "lora" ? { r: about.r, alpha: about.lora_alpha, targetModules: about.target_modules } : config;
  const adapted = injectAdapter(model, { method, config: own as AdapterConfigInput });
  const { g, outputs } = adapted;
  const loss = lossOf(g, name, outputs);
  g.output(loss, "loss");
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]!.name}`);
  });
  const session = await openBuilder(g);
  const start = initialParameters(adapted, 0);
  const feeds: Record<string, RuntimeTensor> = {};
  for (const { name: parameter, shape } of adapted.parameters) {
    const given = tensors.get(`lora.adapter.base_model.model.${parameter}`);
    feeds[parameter] = {
      type: "float32",
      dims: shape,
      data: group === "lora" ? toFloat32Array(given!) : start.get(parameter)!,
    };
  }
  for (const input of session.inputNames) {
    const tensor = tensors.get(`input.${input}`);
    if (tensor)
      feeds[input] = { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
  }
  const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n]!])));
  await session.close();
  const gradients = new Map(adapted.parameters.map((p) => [p.name, result[`d:${p.name}`]!.data as Float32Array]));
  return { gradients, loss: (result["loss"]!.data as Float32Array)[0]! };
}

describe.each(files)("$name/$file", ({ name, file }) => {
  // The older opset differs in its norms only: one group is enough there.
  test.each(file.includes("opset17") ? ["lora"] : Object.keys(groups))("%s gradients are PyTorch's", async (group) => {
    const { tensors } = await readSafetensors(join(golden, `${name}.safetensors`));
    const expected = new Map([...tensors].filter(([key]) => key.startsWith(`${group}.grad.`)));
    if (expected.size === 0) return; // Llama has no biases
    const { gradients, loss } = await gradientsOf(name, file, group, tensors);
    const reference = toFloat32Array(tensors.get(group === "lora" ? "lora.loss" : "loss")!)[0]!;
    expect(Math.abs(loss - reference) / reference).toBeLessThan(1e-5);
    // An output weight tied to the embedding is one parameter in PyTorch and two in the file: the gradients add up.
    const tied = tensors.has(fileKey(group, "lm_head.weight")) ? undefined : gradients.get("lm_head.weight");
    const config = JSON.parse(readFileSync(join(golden, "models", name, "config.json"), "utf8"));
    let [difference, norm] = [0, 0];
    for (const [key, tensor] of expected) {
      const found = [...gradients].find(([parameter]) => fileKey(group, parameter) === key);
      if (!found) {
        expect({ name, key }).toEqual({ name: "bert-model", key: expect.stringContaining("pooler") });
        continue;
      }
      const [parameter, values] = found;
      const width = tensor.dims.at(-1)!;
      // PyTorch gives no gradient to the row of an embedding's padding token.
      const isPadded =
        /word_embeddings/.test(parameter) || (/roberta/.test(name) && /position_embeddings/.test(parameter));
      const padding = isPadded ? config.pad_token_id * width : -1;
      toFloat32Array(tensor).forEach((x, i) => {
        if (padding >= 0 && i >= padding && i < padding + width) return;
        const own = values[i]! + (tied && parameter.endsWith("wte.weight") ? tied[i]! : 0);
        difference += (own - x) ** 2;
        norm += x * x;
      });
    }
    expect(norm).toBeGreaterThan(0);
    expect(Math.sqrt(difference / norm)).toBeLessThan(1e-4);
  });
});

test("the golden files are there", () => {
  expect(existsSync(golden)).toBe(true);
  expect(files.length).toBeGreaterThanOrEqual(24);
});
