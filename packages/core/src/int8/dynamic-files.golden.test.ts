import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { toModel } from "../graph/to-model.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { lora } from "../methods/lora.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { applyInt8Plan } from "./apply-plan.ts";
import { createInt8Plan } from "./plan.ts";

/** Files that onnxruntime.quantization.quantize_dynamic wrote; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/quantized", import.meta.url));
const files = ["model_int8", "model_uint8", "model_quantized"];
type Tensors = ReadonlyMap<string, TensorData>;

function inputsFor(names: readonly string[], tensors: Tensors): Record<string, RuntimeTensor> {
  const feeds: Record<string, RuntimeTensor> = {};
  for (const name of names) {
    const tensor = tensors.get(name === "labels" ? "labels" : `input.${name}`);
    if (!tensor) continue;
    if (tensor.type === "float32") feeds[name] = { type: "float32", dims: tensor.dims, data: toFloat32Array(tensor) };
    else feeds[name] = { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
  }
  return feeds;
}

/** Residual sum and norm in one kernel. A training graph reads the sum, so that the two stay apart there. */
const SKIP_NORMS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "EmbedLayerNormFusion"];

/** What a file gives with ONNX Runtime's default optimisations but these. */
async function ownLogits(model: Model, tensors: Tensors, without: readonly string[] = []): Promise<Float32Array> {
  const session = await InferenceSession.create(encodeModel(model), {
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    ...(without.length === 0 ? {} : { extra: { optimization: { disable_specified_optimizers: without.join(";") } } }),
  });
  const feeds = Object.entries(inputsFor(session.inputNames, tensors)).map(
    ([name, { type, data, dims }]) => [name, new Tensor(type as "float32", data as Float32Array, dims)] as const,
  );
  const { logits } = await session.run(Object.fromEntries(feeds));
  await session.release();
  return logits!.data as Float32Array;
}

interface TrainOptions {
  readonly int8: boolean;
  readonly neutral: boolean;
}

/** Logits and adapter gradients of one training graph; at an adapter that changes nothing when `neutral`. */
async function train(name: string, model: Model, tensors: Tensors, options: TrainOptions) {
  const about = JSON.parse(readFileSync(join(golden, name, "about.json"), "utf8")).lora;
  const { r, lora_alpha: alpha, target_modules: targetModules } = about;
  const adapted = injectAdapter(model, { method: lora, config: { r, alpha, targetModules } });
  const { g, outputs, parameters } = adapted;
  if (options.int8) expect(applyInt8Plan(g, createInt8Plan(model, { bits: 8 })).length).toBeGreaterThan(4);
  const logits = outputs.get("logits")!;
  const perToken = name === "llama";
  const labels = g.input("labels", "int64", perToken ? ["batch", "sequence"] : ["batch"]);
  const { sum, weight } = crossEntropy(g, {
    logits: perToken ? g.slice(logits, [0], [-1], [1]) : logits,
    labels: perToken ? g.slice(labels, [1], [100], [1]) : labels,
  });
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: g.div(sum, weight) }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]!.name}`);
  });
  g.output(logits, "out");
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish({ dropUnusedInputs: true }), g.opset)), {
    threads: 1,
  });
  const feeds = inputsFor(session.inputNames, tensors);
  for (const { name: parameter, role, shape } of parameters) {
    const data = toFloat32Array(tensors.get(`lora.adapter.base_model.model.${parameter}`)!);
    feeds[parameter] = { type: "float32", dims: shape, data: options.neutral && role === "B" ? data.fill(0) : data };
  }
  const result = await session.run(feeds);
  await session.close();
  const gradients = parameters.flatMap((p) => [...((result[`d:${p.name}`]?.data ?? []) as Float32Array)]);
  const expected = parameters.flatMap((p) => [
    ...toFloat32Array(tensors.get(`${options.int8 ? "" : "model"}/lora.grad.base_model.model.${p.name}`) ?? none),
  ]);
  return { logits: result["out"]!.data as Float32Array, gradients, expected };
}

const none: TensorData = { type: "float32", dims: [0], data: new Uint8Array() };
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const cosine = (a: readonly number[], b: readonly number[]): number => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

describe.each(["bert", "llama", "vit"])("%s", (name) => {
  test.each(files)("%s: training computes what the file computes; gradients go straight through", async (file) => {
    const model = await readModel(join(golden, name, `${file}.onnx`), { rangeThreshold: 0 });
    const { tensors } = await readSafetensors(join(golden, name, "golden.safetensors"));
    // With the fusions that users have, and without the one that a training graph leaves out: to the bit.
    const own = await ownLogits(model, tensors);
    expect(await ownLogits(prepareModel(model), tensors)).toEqual(own);
    const apart = await ownLogits(model, tensors, SKIP_NORMS);
    for (const [i, v] of apart.entries()) expect(Math.abs(own[i]! - v)).toBeLessThan(1e-6 * Math.max(1, Math.abs(v)));
    for (const int8 of [false, true])
      expect((await train(name, model, tensors, { int8, neutral: true })).logits).toEqual(apart);
    const exact = await train(name, model, tensors, { int8: false, neutral: false });
    const rounded = await train(name, model, tensors, { int8: true, neutral: false });
    expect(rounded.logits).toEqual(exact.logits);
    expect(cosine(exact.gradients, rounded.gradients)).toBeGreaterThan(0.99);
    // Weights and activations of 8 bits in two random layers of width 32: near PyTorch's gradients of the float32 file.
    expect(exact.expected).toHaveLength(exact.gradients.length);
    expect(cosine(exact.gradients, exact.expected)).toBeGreaterThan(0.95);
  });
});
