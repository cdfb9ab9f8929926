import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { bindInputs } from "../lowering/bind-inputs.ts";
import { branchChoice } from "../lowering/choose-branches.ts";
import { lora } from "../methods/lora.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { subgraphsOf } from "../onnx/structure.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { type Adapter, adapterOf } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter, unmergeAdapter } from "./merge.ts";
import { findSites } from "./sites.ts";

/** decoder_model_merged.onnx: one If, a decoder without a cache in one branch and one with it in the other. */
const golden = fileURLToPath(new URL("../../../../parity/golden/optimum", import.meta.url));
const batch = 2;
const states = 6;
const tokens = 5;

const normal = (count: number, seed: number): Float32Array => {
  const random = createRandom(seed);
  return Float32Array.from({ length: count }, () => random.normal());
};

/** A tensor of the input's type and shape, with the sizes of these runs. */
const floats = ({ type, shape }: Value, sizes: Readonly<Record<string, number>>, seed: number): RuntimeTensor => {
  const dims = shape.map((d, axis) => (axis === 0 ? batch : typeof d === "number" ? d : (sizes[d] ?? 0)));
  const values = normal(
    dims.reduce((a, b) => a * b, 1),
    seed,
  );
  if (type === "float32") return { type, dims, data: values };
  const { data } = tensorFrom("float16", dims, values);
  return { type: "float16", dims, data: new Uint16Array((data as Uint8Array<ArrayBuffer>).slice().buffer) };
};

const ids = (from: number, to: number): RuntimeTensor => {
  const all = [11, 54, 83, 29, 107, 64, 32, 95, 76, 18];
  const rows = [0, 1].flatMap((row) => all.slice(row * tokens + from, row * tokens + to));
  return { type: "int64", dims: [batch, to - from], data: BigInt64Array.from(rows, BigInt) };
};

/** Runs the decoder over tokens `from` to `to`, after those that `past` has keys and values of. */
async function decode(model: Model, from: number, to: number, past: Outputs | null): Promise<Outputs> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const feeds: Record<string, RuntimeTensor> = {};
  for (const input of model.graph.inputs) {
    const { name } = input;
    const present = past?.[name.replace("past_key_values", "present")];
    if (name === "use_cache_branch") feeds[name] = { type: "bool", dims: [1], data: Uint8Array.of(past ? 1 : 0) };
    else if (name === "input_ids") feeds[name] = ids(from, to);
    else if (name === "encoder_hidden_states") feeds[name] = floats(input, { encoder_sequence_length: states }, 5);
    else if (name === "encoder_attention_mask")
      feeds[name] = { type: "int64", dims: [batch, states], data: new BigInt64Array(batch * states).fill(1n) };
    else if (present) feeds[name] = present;
    else feeds[name] = floats(input, {}, 0);
  }
  const outputs = await session.run(feeds as Feeds);
  await session.close();
  return outputs;
}

function logits(outputs: Outputs): Float32Array {
  const { type, dims, data } = outputs["logits"]!;
  if (type === "float32") return data as Float32Array;
  return toFloat32Array({ type: "float16", dims, data: new Uint8Array((data as Uint16Array).slice().buffer) });
}

/** Logits of the last token of every row. */
const last = (outputs: Outputs): number[] => {
  const width = outputs["logits"]!.dims[2]!;
  const length = outputs["logits"]!.dims[1]!;
  return Array.from({ length: batch }, (_, row) =>
    Array.from(logits(outputs).subarray(((row + 1) * length - 1) * width, (row + 1) * length * width)),
  ).flat();
};

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
};

/** Operators and inputs of all nodes, those in branches too. */
const nodeNames = ({ graph }: Pick<Model, "graph">): unknown[] =>
  graph.nodes.map((node) => [
    node.op,
    node.inputs,
    subgraphsOf(node).map((inner) => [nodeNames({ graph: inner }), [...inner.initializers.keys()]]),
  ]);

/** LoRA with random numbers in both factors on every linear layer. */
function randomAdapter(model: Model, targetModules: string[] | string = "all-linear"): Adapter {
  const adapted = injectAdapter(model, { method: lora, config: { r: 2, alpha: 4, targetModules } });
  const values = adapted.parameters.map(({ name, shape }, i) => {
    const data = normal(
      shape.reduce((a, b) => a * b, 1),
      100 + i,
    );
    return [name, data.map((v) => 0.2 * v)] as const;
  });
  return adapterOf(adapted, new Map(values));
}

const cases = [
  { file: "t5-decoder/decoder_model_merged.onnx", tolerance: 1e-5, keepsFile: true },
  { file: "whisper-decoder/decoder_model_merged_slim.onnx", tolerance: 1e-5, keepsFile: true },
  // Ranges of dynamic int8 are those of the whole input, which is not the same for one token and for five.
  { file: "whisper-decoder/decoder_model_merged_slim_quantized.onnx", tolerance: 3e-2, keepsFile: false },
  { file: "whisper-decoder/decoder_model_merged_slim_q4.onnx", tolerance: 1e-5, keepsFile: false },
  { file: "t5-decoder/decoder_model_merged_fp16.onnx", tolerance: 2e-2, keepsFile: false },
];

describe.each(cases)("$file", ({ file, tolerance, keepsFile }) => {
  test("the branch that reads no cache is trained", async () => {
    const model = await readModel(join(golden, file));
    expect(branchChoice(model)).toMatchObject({ input: "use_cache_branch", value: false });
    const names = findSites(model).map((site) => site.name);
    expect(names.filter((name) => /k_proj$|(Attention\.k)$/.test(name))).toHaveLength(4);
    expect(injectAdapter(model, { method: lora, config: { targetModules: "all-linear" } }).parameters.length).toBe(40);
  });

  test("a merged adapter is in both branches", async () => {
    const model = await readModel(join(golden, file));
    const merged = mergeAdapter(model, randomAdapter(model));
    expect(merged.graph.inputs).toEqual(model.graph.inputs);
    expect(merged.graph.outputs.map((v) => v.name)).toEqual(model.graph.outputs.map((v) => v.name));
    if (keepsFile) expect(nodeNames(merged)).toEqual(nodeNames(model));
    const whole = await decode(merged, 0, tokens, null);
    const first = await decode(merged, 0, tokens - 1, null);
    const next = await decode(merged, tokens - 1, tokens, first);
    expect(distance(last(next), last(whole))).toBeLessThan(tolerance);
    // It changes both: the branch of the file as it was is far from it.
    expect(distance(last(await decode(model, 0, tokens, null)), last(whole))).toBeGreaterThan(0.1);
    expect(distance(last(await decode(model, tokens - 1, tokens, first)), last(whole))).toBeGreaterThan(0.1);
    expect(Object.keys(next)).toEqual(Object.keys(whole));
  });
});

describe("a merged decoder", () => {
  const file = join(golden, "whisper-decoder/decoder_model_merged_slim.onnx");

  test("unmerged is the base again", async () => {
    const model = await readModel(file);
    const adapter = randomAdapter(model);
    const back = unmergeAdapter(mergeAdapter(model, adapter), adapter);
    for (const [name, past] of Object.entries({ whole: null, next: await decode(model, 0, tokens - 1, null) })) {
      const from = past ? tokens - 1 : 0;
      const [found, expected] = [await decode(back, from, tokens, past), await decode(model, from, tokens, past)];
      expect(distance(logits(found), logits(expected)), name).toBeLessThan(1e-6);
    }
  });

  test("an adapter of modules that one branch has is written there", async () => {
    const model = await readModel(file);
    const merged = mergeAdapter(model, randomAdapter(model, ["encoder_attn.k_proj", "encoder_attn.v_proj"]));
    expect(nodeNames(merged)).toEqual(nodeNames(model));
    const whole = await decode(merged, 0, tokens, null);
    const next = await decode(merged, tokens - 1, tokens, await decode(merged, 0, tokens - 1, null));
    expect(distance(last(next), last(whole))).toBeLessThan(1e-5);
    expect(distance(last(await decode(model, 0, tokens, null)), last(whole))).toBeGreaterThan(1e-2);
  });

  test("either branch can be bound", async () => {
    const model = await readModel(file);
    const first = await decode(model, 0, tokens - 1, null);
    for (const value of [true, false]) {
      const bound = bindInputs(model, { use_cache_branch: value });
      expect(bound.graph.inputs.map((v) => v.name)).not.toContain("use_cache_branch");
      expect(bound.graph.nodes.map((n) => n.op)).not.toContain("If");
      const [from, past] = value ? [tokens - 1, first] : [0, null];
      const [found, expected] = [await decode(bound, from, tokens, past), await decode(model, from, tokens, past)];
      expect(distance(logits(found), logits(expected))).toBeLessThan(1e-6);
    }
    const sitesOf = (value: boolean): number => findSites(bindInputs(model, { use_cache_branch: value })).length;
    expect(sitesOf(false) - sitesOf(true)).toBe(4); // keys and values of the encoder's states are in the cache
  });

  test("what is bound must be a truth value of the model", async () => {
    const model = await readModel(file);
    expect(() => bindInputs(model, { use_cache: true })).toThrow(/no input "use_cache"/);
    expect(() => bindInputs(model, { input_ids: true })).toThrow(/one truth value/);
  });
});
