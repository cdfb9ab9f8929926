import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { toModel } from "../graph/to-model.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { lora } from "../methods/lora.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { tensorFrom, toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { findSites } from "./sites.ts";

/** Files in the types of transformers.js, with PyTorch over their dequantised weights; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/quantized", import.meta.url));
type Tensors = ReadonlyMap<string, TensorData>;

/** Files whose arithmetic is that of float32: their losses and gradients are PyTorch's. */
const exact = ["model", "model_fp16", "model_q4", "model_q4f16", "model_bnb4", "model_q4_qdq"];
/** Files that round activations as well; their weights are still those of the reference. */
const rounding = ["model_int8", "model_uint8", "model_quantized", "model_static_qdq"];
const names = ["bert", "llama", "vit"];
const load = (name: string, file: string): Promise<Model> =>
  readModel(join(golden, name, `${file}.onnx`), { rangeThreshold: 0 });
const tensorsOf = async (name: string): Promise<Tensors> =>
  (await readSafetensors(join(golden, name, "golden.safetensors"))).tensors;
const about = (name: string) => JSON.parse(readFileSync(join(golden, name, "about.json"), "utf8")).lora;

function feedsFor(inputs: readonly string[], tensors: Tensors): Record<string, RuntimeTensor> {
  const feeds: Record<string, RuntimeTensor> = {};
  for (const input of inputs) {
    const tensor = tensors.get(input === "labels" ? "labels" : `input.${input}`);
    if (tensor?.type === "float32") feeds[input] = { type: "float32", dims: tensor.dims, data: toFloat32Array(tensor) };
    else if (tensor) {
      feeds[input] = { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
    }
  }
  return feeds;
}

async function run(model: Model, tensors: Tensors): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { logits } = await session.run(feedsFor(session.inputNames, tensors));
  await session.close();
  const { type, dims, data } = logits!;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return toFloat32Array({ type, dims, data: bytes });
}

const relative = (found: ArrayLike<number>, expected: ArrayLike<number>): number => {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return found.length === expected.length ? Math.sqrt(difference / norm) : Number.POSITIVE_INFINITY;
};

function adapted(name: string, model: Model): AdaptedGraph {
  const { r, lora_alpha: alpha, target_modules: targetModules } = about(name);
  return injectAdapter(model, { method: lora, config: { r, alpha, targetModules } });
}

const parametersOf = ({ parameters }: AdaptedGraph, tensors: Tensors): Map<string, Float32Array> =>
  new Map(parameters.map(({ name }) => [name, toFloat32Array(tensors.get(`lora.adapter.base_model.model.${name}`)!)]));

const feedsOf = (graph: AdaptedGraph, tensors: Tensors): Feeds => {
  const values = parametersOf(graph, tensors);
  return Object.fromEntries(
    graph.parameters.map(({ name, shape }) => [name, { type: "float32", dims: shape, data: values.get(name)! }]),
  );
};

/** Loss and adapter gradients over one file. */
async function gradientsOf(name: string, model: Model, tensors: Tensors) {
  const graph = adapted(name, model);
  const { g, outputs } = graph;
  const logits = outputs.get("logits")!;
  expect(logits.type).toBe("float32");
  const labels = g.input("labels", "int64", name === "llama" ? ["batch", "sequence"] : ["batch"]);
  const parts =
    name !== "llama"
      ? { logits, labels }
      : { logits: g.slice(logits, [0], [-1], [1]), labels: g.slice(labels, [1], [100], [1]) };
  const { sum, weight } = crossEntropy(g, parts);
  const loss = g.div(sum, weight);
  g.output(loss, "loss");
  const wanted = trainableValues(graph);
  differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]!.name}`);
  });
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish(), g.opset)), { threads: 1 });
  const result = await session.run({ ...feedsFor(session.inputNames, tensors), ...feedsOf(graph, tensors) });
  await session.close();
  const gradients = graph.parameters.map((p) => [p.name, result[`d:${p.name}`]!.data as Float32Array] as const);
  return { loss: (result["loss"]!.data as Float32Array)[0]!, gradients: new Map(gradients) };
}

const expectedGradients = (tensors: Tensors, file: string): Map<string, Float32Array> => {
  const prefix = `${file}/lora.grad.base_model.model.`;
  const found = [...tensors].filter(([key]) => key.startsWith(prefix));
  return new Map(found.map(([key, tensor]) => [key.slice(prefix.length), toFloat32Array(tensor)]));
};

const joined = (values: ReadonlyMap<string, Float32Array>, keys: Iterable<string>): number[] =>
  [...keys].flatMap((key) => [...values.get(key)!]);

/** QuantizeLinear and DequantizeLinear of activations as what they do but for rounding: a Clip to the range of the integers. */
function withClipping(model: Model): Model {
  const { initializers, nodes } = model.graph;
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const added = new Map(initializers);
  const clipped = nodes.map((node) => {
    const quantizer = node.op === "DequantizeLinear" ? makers.get(node.inputs[0]!) : undefined;
    if (quantizer?.op !== "QuantizeLinear") return node;
    const [scale] = toFloat32Array(initializers.get(node.inputs[1]!)!);
    const [zero] = toNumbers(initializers.get(node.inputs[2]!)!);
    const limits = [0, 255].map((code, i) => {
      const limit = `${node.outputs[0]}:limit:${i}`;
      added.set(limit, tensorFrom("float32", [], [scale! * (code - zero!)]));
      return limit;
    });
    return { ...node, op: "Clip", inputs: [quantizer.inputs[0]!, ...limits], attributes: {} };
  });
  return { ...model, graph: { ...model.graph, nodes: clipped, initializers: added } };
}

describe.each(names)("%s", (name) => {
  test.each(exact)("%s: loss and adapter gradients are those of PyTorch over the dequantised weights", async (file) => {
    const tensors = await tensorsOf(name);
    const { loss, gradients } = await gradientsOf(name, await load(name, file), tensors);
    const reference = toFloat32Array(tensors.get(`${file}/lora.loss`)!)[0]!;
    expect(Math.abs(loss - reference) / reference).toBeLessThan(1e-5);
    const expected = expectedGradients(tensors, file);
    expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort());
    expect(relative(joined(gradients, expected.keys()), joined(expected, expected.keys()))).toBeLessThan(1e-4);
  });

  test("static QDQ: straight-through gradients are those of the file with clipping in the place of rounding", async () => {
    const [model, tensors] = [await load(name, "model_static_qdq"), await tensorsOf(name)];
    const [rounded, clipped] = [
      await gradientsOf(name, model, tensors),
      await gradientsOf(name, withClipping(model), tensors),
    ];
    expect(Math.abs(rounded.loss / clipped.loss - 1)).toBeLessThan(0.03);
    const keys = [...rounded.gradients.keys()];
    const [x, y] = [joined(rounded.gradients, keys), joined(clipped.gradients, keys)];
    const dot = (u: number[], v: number[]): number => u.reduce((sum, value, i) => sum + value * v[i]!, 0);
    expect(dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y))).toBeGreaterThan(0.95); // 8 bits round every activation of two random layers
  });

  test.each([...exact, ...rounding])(
    "%s: module names, shapes and kinds are those of the float32 file",
    async (file) => {
      // The static file rounds between a product and its bias, which is no part of the site then; quantised convolutions
      // add theirs reshaped.
      const biases = (kind: string) => file !== "model_static_qdq" && (exact.includes(file) || kind !== "conv");
      const sites = (model: Model) =>
        findSites(model).map(({ name: n, kind, weightShape, hasBias }) => ({
          n,
          kind,
          weightShape,
          hasBias: biases(kind) && hasBias,
        }));
      const [own, plain] = [sites(await load(name, file)), sites(await load(name, "model"))];
      const byName = (a: { n: string }, b: { n: string }): number => (a.n < b.n ? -1 : 1);
      expect(own.sort(byName)).toEqual(plain.sort(byName));
    },
  );

  test.each([...exact, ...rounding])("%s: an adapter merged into the file", async (file) => {
    const tensors = await tensorsOf(name);
    const model = await load(name, file);
    const graph = adapted(name, model);
    const data = parametersOf(graph, tensors);
    const adapter = {
      type: "LORA",
      config: graph.config,
      tensors: new Map(graph.parameters.map(({ name: n, shape }) => [n, { dims: shape, data: data.get(n)! }])),
    };
    const merged = mergeAdapter(model, adapter);
    const targets = new Set(graph.plans.map((plan) => plan.site.name));
    for (const site of findSites(merged)) {
      const before = findSites(model).find((s) => s.name === site.name);
      expect(site.packed?.form).toBe(targets.has(site.name) ? undefined : before?.packed?.form);
    }
    const swapped = graph.g.value("logits");
    graph.g.output(swapped, "logits");
    const session = await onnxruntimeNode.open(encodeModel(toModel(graph.g.finish(), graph.g.opset)), { threads: 1 });
    const injected = await session.run({ ...feedsFor(session.inputNames, tensors), ...feedsOf(graph, tensors) });
    await session.close();
    const { type, dims, data: logits } = injected["logits"]!;
    const bytes = new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength);
    const tolerance = rounding.includes(file) ? 0.1 : /16/.test(file) ? 5e-3 : 1e-5;
    expect(relative(await run(merged, tensors), toFloat32Array({ type, dims, data: bytes }))).toBeLessThan(tolerance);
  });
});
