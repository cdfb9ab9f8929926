import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { initialParameters } from "../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import { differentiate } from "../autodiff/differentiate.ts";
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
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Runtime, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "./run-graph.ts";

/** Groups of gradients in the golden files, and how they come about here. */
export const goldenGroups: Readonly<Record<string, { method: Method; config: AdapterConfigInput }>> = {
  lora: { method: lora as unknown as Method, config: {} },
  bitfit: { method: bitfit as unknown as Method, config: {} },
  norm: { method: lnTuning as unknown as Method, config: {} },
  full: { method: full as unknown as Method, config: { targetModules: ".*" } },
};

/** The loss that the JSON beside the golden numbers describes. */
function lossOf(g: Builder, name: string, outputs: ReadonlyMap<string, Value>): Value {
  const output = (key: string): Value => outputs.get(key) as Value;
  if (name === "bert-model") {
    const hidden = output("last_hidden_state");
    const mask = g.unsqueeze(g.cast(g.value("attention_mask"), "float32"), [2]);
    const pooled = g.div(g.reduceSum(g.mul(hidden, mask), [1], false), g.reduceSum(mask, [1], false));
    const [anchors, positives] = [g.slice(pooled, [0], [3], [0]), g.slice(pooled, [3], [6], [0])];
    const { sum, weight } = multipleNegatives(g, { anchors, positives });
    return g.div(sum, weight);
  }
  const logits = output("logits");
  const isCausal = name === "gpt2" || name === "llama";
  const labels = g.input("labels", "int64", logits.shape.slice(0, -1));
  const parts = isCausal
    ? crossEntropy(g, { logits: g.slice(logits, [0], [-1], [1]), labels: g.slice(labels, [1], [100], [1]) })
    : crossEntropy(g, { logits, labels });
  return g.div(parts.sum, parts.weight);
}

/** Where a golden model's exports and numbers lie. */
export interface GoldenModel {
  /** parity/golden */
  readonly folder: string;
  readonly name: string;
  /** File in the model's folder `onnx`. */
  readonly file: string;
  /** Of {@link goldenGroups}. */
  readonly group: string;
  readonly tensors: ReadonlyMap<string, TensorData>;
}

/** Loss and gradients, by parameter, of an export of a golden model over the golden batch. */
export async function goldenGradients(
  { folder, name, file, group, tensors }: GoldenModel,
  runtime: Runtime = onnxruntimeNode,
): Promise<{ readonly loss: number; readonly gradients: ReadonlyMap<string, Float32Array> }> {
  const model = await readModel(join(folder, "models", name, "onnx", file));
  const { method, config } = goldenGroups[group] as (typeof goldenGroups)[string];
  const about = JSON.parse(await readFile(join(folder, `${name}.json`), "utf8")).lora.config;
  const own = group === "lora" ? { r: about.r, alpha: about.lora_alpha, targetModules: about.target_modules } : config;
  const adapted = injectAdapter(model, { method, config: own as AdapterConfigInput });
  const { g, outputs } = adapted;
  const loss = lossOf(g, name, outputs);
  g.output(loss, "loss");
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]?.name}`);
  });
  const session = await openBuilder(g, runtime);
  const start = initialParameters(adapted, 0);
  const feeds: Record<string, RuntimeTensor> = {};
  for (const { name: parameter, shape } of adapted.parameters) {
    const given = tensors.get(`lora.adapter.base_model.model.${parameter}`);
    const data = group === "lora" && given ? toFloat32Array(given) : (start.get(parameter) as Float32Array);
    feeds[parameter] = { type: "float32", dims: shape, data };
  }
  for (const input of session.inputNames) {
    const tensor = tensors.get(`input.${input}`);
    if (tensor)
      feeds[input] = { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
  }
  const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n] as RuntimeTensor])));
  await session.close();
  return {
    loss: Number(result["loss"]?.data[0]),
    gradients: new Map(adapted.parameters.map((p) => [p.name, result[`d:${p.name}`]?.data as Float32Array])),
  };
}
