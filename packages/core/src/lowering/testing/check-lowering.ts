import { expect } from "vitest";
import { differentiate } from "../../autodiff/differentiate.ts";
import { importGraph } from "../../graph/import-graph.ts";
import { toModel } from "../../graph/to-model.ts";
import type { Model, TensorData, Value } from "../../onnx/ir.ts";
import { opsetOf } from "../../onnx/opset.ts";
import { toFloat32Array, toNumbers } from "../../onnx/tensor.ts";
import { encodeModel } from "../../onnx/write.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { lowerModel } from "../lower-model.ts";
import { type FusedNode, fusedModel } from "./fused-model.ts";

export interface LoweringCheck {
  /** Largest difference over the largest magnitude of an output; default 1e-6. */
  readonly tolerance?: number;
  /** Compare gradients too; default true. */
  readonly gradients?: boolean;
}

function feedOf(tensor: TensorData): RuntimeTensor {
  const { type, dims } = tensor;
  if (type === "int64") return { type, dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
  if (type === "int32") return { type, dims, data: Int32Array.from(toNumbers(tensor)) };
  if (type === "bool") return { type, dims, data: Uint8Array.from(toNumbers(tensor)) };
  return { type: "float32", dims, data: toFloat32Array(tensor) };
}

/** Tensors as feeds. */
export const feedsOf = (tensors: ReadonlyMap<string, TensorData>): Record<string, RuntimeTensor> =>
  Object.fromEntries([...tensors].map(([name, tensor]) => [name, feedOf(tensor)]));

/** Runs two models with inputs and outputs of the same names and compares every output. */
export async function compareModels(
  found: Model,
  foundFeeds: ReadonlyMap<string, TensorData>,
  expected: Model,
  expectedFeeds: ReadonlyMap<string, TensorData>,
  tolerance = 1e-6,
): Promise<void> {
  const [a, b] = [await runOnce(found, feedsOf(foundFeeds)), await runOnce(expected, feedsOf(expectedFeeds))];
  for (const { name } of expected.graph.outputs)
    expect(relativeError(a[name]!, b[name]!), `output ${name}`).toBeLessThan(tolerance);
}

/** Outputs of a model for those of the feeds that it has inputs for. */
export async function runOnce(model: Model, feeds: Feeds): Promise<Outputs> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  try {
    return await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n] as RuntimeTensor])));
  } finally {
    await session.close();
  }
}

/** Largest difference over the largest finite magnitude expected. NaN and infinities must agree. */
export function relativeError(found: RuntimeTensor, expected: RuntimeTensor): number {
  expect(found.dims).toEqual(expected.dims);
  let [largest, scale] = [0, 1e-6];
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(found.data[i]), Number(expected.data[i])];
    if (Object.is(a, b)) continue;
    largest = Math.max(largest, Number.isNaN(a - b) ? Number.POSITIVE_INFINITY : Math.abs(a - b));
  }
  for (const value of expected.data)
    if (Number.isFinite(Number(value))) scale = Math.max(scale, Math.abs(Number(value)));
  return largest / scale;
}

/**
 * Runs a fused node and its lowered form on ONNX Runtime and compares every output; then the gradients that the engine takes
 * of the lowered form with central differences of the fused node itself, along a random direction per floating input.
 */
export async function checkLowering(spec: FusedNode, check: LoweringCheck = {}): Promise<Model> {
  const { tolerance = 1e-6, gradients = true } = check;
  const { model, tensors } = fusedModel(spec);
  const lowered = lowerModel(model);
  expect(lowered, `${spec.op} was left as it is`).not.toBe(model);
  expect(lowerModel(lowered)).toBe(lowered);
  const feeds = feedsOf(tensors);
  const expected = await runOnce(model, feeds);
  const found = await runOnce(lowered, feeds);
  for (const { name } of model.graph.outputs)
    expect(relativeError(found[name]!, expected[name]!), `${spec.op}, output ${name}`).toBeLessThan(tolerance);
  if (gradients) {
    const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    await checkGradients(model, lowered, feeds, expected, (moved) =>
      session.run(Object.fromEntries(session.inputNames.map((n) => [n, moved[n] as RuntimeTensor]))),
    );
    await session.close();
  }
  return lowered;
}

/** What an operator computes, written down: its outputs from its inputs, absent ones null. */
export type Formula = (inputs: readonly (RuntimeTensor | null)[]) => readonly RuntimeTensor[];

/** {@link checkLowering} for operators that ONNX Runtime has no kernel for on a CPU: against their formula. */
export async function checkFormula(spec: FusedNode, formula: Formula, tolerance = 1e-5): Promise<Model> {
  const { model, tensors } = fusedModel(spec);
  const lowered = lowerModel(model);
  expect(lowered.graph.nodes.map((n) => n.op)).not.toContain(spec.op);
  const feeds = feedsOf(tensors);
  const run = async (moved: Feeds): Promise<Outputs> => {
    const results = formula(spec.inputs.map((input, i) => (input ? (moved[`x${i}`] as RuntimeTensor) : null)));
    return Object.fromEntries(model.graph.outputs.map(({ name }) => [name, results[Number(name.slice(1))]!]));
  };
  const expected = await run(feeds);
  const found = await runOnce(lowered, feeds);
  for (const { name } of model.graph.outputs)
    expect(relativeError(found[name]!, expected[name]!), `${spec.op}, output ${name}`).toBeLessThan(tolerance);
  await checkGradients(model, lowered, feeds, expected, run);
  return lowered;
}

async function checkGradients(
  model: Model,
  lowered: Model,
  feeds: Feeds,
  expected: Outputs,
  run: (feeds: Feeds) => Promise<Outputs>,
): Promise<void> {
  const random = testRandom(11);
  const draw = (n: number): Float32Array => Float32Array.from({ length: n }, () => 2 * random() - 1);
  const g = importGraph(lowered.graph, opsetOf(lowered));
  const shown = model.graph.outputs.filter((v) => v.type === "float32");
  const wanted = model.graph.inputs.filter((v) => v.type === "float32").map((v) => g.value(v.name));
  if (wanted.length === 0) return;
  const all: Record<string, RuntimeTensor> = { ...feeds };
  const seeds = shown.map(({ name }): { value: Value; gradient: Value } => {
    const { dims, data } = expected[name]!;
    all[`d.${name}`] = { type: "float32", dims, data: draw(data.length) };
    return { value: g.value(name), gradient: g.input(`d.${name}`, "float32", g.value(name).shape) };
  });
  differentiate(g, seeds, wanted, { unreached: "zeros" }).forEach((d, i) => {
    g.output(d, `d.${wanted[i]?.name}`);
  });
  const analytic = await runOnce(toModel(g.finish({ dropUnusedInputs: true }), g.opset), all);
  const objective = async (moved: Feeds): Promise<number> => {
    const y = await run(moved);
    return shown.reduce((sum, { name }) => {
      const [values, weights] = [y[name]!.data as Float32Array, all[`d.${name}`]!.data as Float32Array];
      return sum + values.reduce((s, v, i) => s + v * (weights[i] as number), 0);
    }, 0);
  };
  for (const { name } of wanted) {
    const input = feeds[name]!;
    const gradient = analytic[`d.${name}`]!;
    expect(gradient.dims, `gradient of ${name}`).toEqual(input.dims);
    const direction = draw(input.data.length);
    const at = (h: number): Promise<number> => {
      const data = (input.data as Float32Array).map((v, i) => v + h * (direction[i] as number));
      return objective({ ...feeds, [name]: { ...input, data } });
    };
    const central = async (h: number): Promise<number> => ((await at(h)) - (await at(-h))) / (2 * h);
    const numeric = (4 * (await central(5e-3)) - (await central(1e-2))) / 3;
    const values = gradient.data as Float32Array;
    const along = values.reduce((sum, v, i) => sum + v * (direction[i] as number), 0);
    const scale = Math.sqrt(values.reduce((sum, v, i) => sum + (v * (direction[i] as number)) ** 2, 0));
    const error = Math.abs(along - numeric) / Math.max(scale, Math.abs(numeric), 1e-2);
    expect(error, `gradient of ${name}: ${along} against ${numeric}`).toBeLessThan(3e-3);
  }
}
