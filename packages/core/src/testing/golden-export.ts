import { basename, dirname, join } from "node:path";
import { initialParameters } from "../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "../adapters/inject.ts";
import { isReached, valuesBehind } from "../adapters/reach.ts";
import { findSites } from "../adapters/sites.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { freeSizes } from "../lowering/free-sizes.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { full } from "../methods/full.ts";
import { lora } from "../methods/lora.ts";
import type { Method } from "../methods/method.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Model, TensorData, Value } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Runtime, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "./run-graph.ts";

type Tensors = ReadonlyMap<string, TensorData>;

/** How far an export is from PyTorch: |found - expected| / |expected|, each group of tensors taken as one vector. */
export interface GoldenComparison {
  /** Of the file's own outputs, where the loss looks at them (not at padding). */
  readonly outputs: number;
  /** Of the loss, by group of gradients ("lora", "full"). */
  readonly losses: Readonly<Record<string, number>>;
  readonly gradients: Readonly<Record<string, number>>;
  /** Parameters that PyTorch has a gradient other than zero for and this engine found no module for. */
  readonly missing: readonly string[];
}

const peftPrefix = "base_model.model.";
const groups: Readonly<Record<string, { method: Method; key: (name: string) => string }>> = {
  lora: { method: lora as unknown as Method, key: (name) => `${peftPrefix}${name}` },
  full: { method: full as unknown as Method, key: (name) => name },
  // With every BatchNorm folded into the convolution before it, as both exporters do in evaluation mode.
  folded: { method: full as unknown as Method, key: (name) => name },
};

function feedOf(tensor: TensorData): RuntimeTensor {
  if (tensor.type !== "int64") return { type: "float32", dims: tensor.dims, data: toFloat32Array(tensor) };
  return { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
}

/**
 * Compares an export, without sizes of the example that were written into it, with the numbers of PyTorch in the `golden.safetensors` beside it (made by parity/generators): its
 * outputs, the loss sum(mean(output * cotangent)), and the gradients of LoRA on every linear layer or of every weight.
 * @param file path of the ONNX file.
 * @param runtime default ONNX Runtime on the CPU.
 * @throws PeftError as reading, injecting and differentiating do
 */
export async function compareWithGolden(file: string, runtime: Runtime = onnxruntimeNode): Promise<GoldenComparison> {
  const { tensors } = await readSafetensors(join(dirname(file), "golden.safetensors"));
  const { model } = freeSizes(await readModel(file));
  const session = await runtime.open(encodeModel(model), { threads: 1 });
  const batch = batchIn(tensors);
  const given: Feeds = Object.fromEntries(
    model.graph.inputs
      .filter(({ name }) => session.inputNames.includes(name))
      .map((input) => {
        const tensor = tensors.get(`input.${input.name}`);
        return [input.name, tensor ? feedOf(tensor) : emptyOf(input, batch, file)];
      }),
  );
  const seenOutputs = session.outputNames.filter((name) => tensors.has(`cotangent.${name}`));
  const found = await session.run(given, seenOutputs);
  await session.close();
  const outputs = new Distance();
  for (const [name, { data }] of Object.entries(found)) {
    const seen = toFloat32Array(required(tensors, `cotangent.${name}`, file));
    const weighed = (values: Float32Array): Float32Array => values.map((x, i) => (seen[i] === 0 ? 0 : x));
    outputs.add(weighed(data as Float32Array), weighed(toFloat32Array(required(tensors, `output.${name}`, file))));
  }
  const other = model.graph.nodes.some((n) => n.op === "BatchNormalization") ? "folded" : "full";
  const names = Object.keys(groups).filter(
    (group) => tensors.has(`${group}.loss`) && !(group === other && tensors.has("folded.loss")),
  );
  const [losses, gradients]: Record<string, number>[] = [{}, {}];
  const missing: string[] = [];
  for (const group of names) {
    const result = await compareGroup(model, group, tensors, given, runtime);
    (losses as Record<string, number>)[group] = result.loss;
    (gradients as Record<string, number>)[group] = result.gradient;
    missing.push(...result.missing);
  }
  return { outputs: outputs.value, losses: losses ?? {}, gradients: gradients ?? {}, missing };
}

/** Rows of the recorded inputs. */
const batchIn = (tensors: Tensors): number =>
  [...tensors].find(([name]) => name.startsWith("input."))?.[1].dims[0] ?? 1;

/** Inputs of earlier tokens, of which there are none: empty caches, and a choice of the branch without them. */
function emptyOf({ name, type, shape }: Value, batch: number, file: string): RuntimeTensor {
  if (type === "bool") return { type, dims: shape.map(() => 1), data: Uint8Array.of(0) };
  if (type !== "float32" || !/past/.test(name)) {
    throw new Error(`${basename(dirname(file))}/golden.safetensors has no "input.${name}".`);
  }
  const dims = shape.map((dim, axis) => (axis === 0 ? batch : typeof dim === "number" ? dim : 0));
  return { type, dims, data: new Float32Array() };
}

/** Relative distance of vectors, collected piece by piece. */
class Distance {
  private difference = 0;
  private norm = 0;
  add(found: ArrayLike<number>, expected: ArrayLike<number>): void {
    for (let i = 0; i < expected.length; i++) {
      const e = expected[i] as number;
      this.difference += ((found[i] ?? Number.NaN) - e) ** 2;
      this.norm += e * e;
    }
  }
  get value(): number {
    return Math.sqrt(this.difference / this.norm);
  }
}

function required(tensors: Tensors, key: string, file: string): TensorData {
  const tensor = tensors.get(key);
  if (!tensor) throw new Error(`${basename(dirname(file))}/golden.safetensors has no "${key}".`);
  return tensor;
}

function inject(model: Model, group: string, tensors: Tensors): AdaptedGraph {
  const sites = findSites(model);
  if (group !== "lora") return injectAdapter(model, { method: full, config: { targetModules: ".*" }, sites });
  const prefix = `lora.adapter.${peftPrefix}`;
  const adapted = [...tensors.keys()].flatMap((key) => (key.startsWith(prefix) ? [key.slice(prefix.length)] : []));
  const modules = new Set(adapted.map((name) => name.replace(/\.lora_[AB]\.weight$/, "")));
  const behind = valuesBehind(
    prepareModel(model).graph,
    model.graph.outputs.map((v) => v.name),
  );
  const targets = sites.filter((s) => s.kind === "linear" && modules.has(s.name) && isReached(s, behind));
  const rank = tensors.get(`${prefix}${targets[0]?.name}.lora_A.weight`)?.dims[0] ?? 2;
  const config = { r: rank, alpha: 2 * rank, targetModules: targets.map((s) => s.name) };
  return injectAdapter(model, { method: lora, config, sites: targets });
}

async function compareGroup(model: Model, group: string, tensors: Tensors, given: Feeds, runtime: Runtime) {
  const adapted = inject(model, group, tensors);
  const { g, parameters } = adapted;
  const terms: Value[] = [];
  const feeds: Record<string, RuntimeTensor> = { ...given };
  for (const [name, output] of adapted.outputs) {
    const cotangent = tensors.get(`cotangent.${name}`);
    if (!cotangent || !isFloating(output.type)) continue;
    feeds[`cotangent.${name}`] = feedOf(cotangent);
    const product = g.mul(output, g.input(`cotangent.${name}`, "float32", output.shape));
    terms.push(
      g.reduceMean(
        product,
        product.shape.map((_, axis) => axis),
        false,
      ),
    );
  }
  const loss = terms.reduce((a, b) => g.add(a, b));
  g.output(loss, "loss");
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: loss }], wanted, { unreached: "zeros" }).forEach((d, i) => {
    g.output(d, `d:${wanted[i]?.name}`);
  });
  const values = group !== "lora" ? initialParameters(adapted, 0) : null;
  const { key } = groups[group] as (typeof groups)[string];
  for (const { name, shape } of parameters) {
    const adapter = tensors.get(`${group}.adapter.${key(name)}`);
    const data = adapter ? toFloat32Array(adapter) : (values?.get(name) ?? new Float32Array());
    feeds[name] = { type: "float32", dims: shape, data };
  }
  const session = await openBuilder(g, runtime);
  const result = await session.run(
    Object.fromEntries(session.inputNames.map((name) => [name, feeds[name] as RuntimeTensor])),
  );
  await session.close();
  const distance = new Distance();
  const missing: string[] = [];
  const names = new Map(parameters.map(({ name }) => [`${group}.grad.${key(name)}`, name]));
  for (const [entry, tensor] of tensors) {
    if (!entry.startsWith(`${group}.grad.`)) continue;
    const expected = toFloat32Array(tensor);
    const own = names.get(entry);
    if (own !== undefined) distance.add(result[`d:${own}`]?.data as Float32Array, expected);
    else if (expected.some((x) => x !== 0)) missing.push(entry.slice(`${group}.grad.`.length));
  }
  const reference = toFloat32Array(tensors.get(`${group}.loss`) as TensorData)[0] as number;
  const lossFound = Number(result["loss"]?.data[0]);
  return { loss: Math.abs(lossFound - reference) / Math.abs(reference), gradient: distance.value, missing };
}
