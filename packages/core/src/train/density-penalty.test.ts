import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "../adapters/inject.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { methodOf } from "../methods/registry.ts";
import { triedConfigs } from "../methods/testing/configs.ts";
import type { Model } from "../onnx/ir.ts";
import { decodeModel, readModel } from "../onnx/read.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { quantizeModel } from "../quantization/quantize-model.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { activationDensity } from "./activation-density.ts";
import { buildAdapterProgram } from "./adapter-program.ts";
import { densityPenalty } from "./density-penalty.ts";
import { createEngine } from "./engine.ts";
import { gradientName, LOSS_SUM, LOSS_WEIGHT } from "./output-names.ts";
import type { Penalty } from "./penalty.ts";

const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const lora = { r: 2, targetModules: ["query", "up", "intermediate.dense"] };

const inject = (model: Model, type = "LORA", config: object = lora): AdaptedGraph =>
  injectAdapter(model, {
    method: methodOf(type),
    config: config as AdapterConfigInput,
    wantedOutputs: ["logits"],
    training: true,
  });

function programOf(adapted: AdaptedGraph, penalties: readonly Penalty[]) {
  const { g, outputs } = adapted;
  const logits = outputs.get("logits")!;
  const labels = g.input("labels", "int64", [logits.shape[0] ?? "batch"]);
  return buildAdapterProgram(adapted, crossEntropy(g, { logits, labels }), { penalties });
}

const batch: Feeds = {
  input_ids: { type: "int64", dims: [3, 5], data: BigInt64Array.from({ length: 15 }, (_, i) => BigInt((i * 7) % 11)) },
  labels: { type: "int64", dims: [3], data: BigInt64Array.from([0n, 1n, 2n]) },
};

async function trained(penalties: readonly Penalty[], steps: number) {
  const adapted = inject(tinyModel());
  const start = initialParameters(adapted, 1);
  const parameters = Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32" as const, dims: shape, data: start.get(name)! },
    ]),
  );
  const training = programOf(adapted, penalties);
  const engine = await createEngine(onnxruntimeNode, {
    ...{ training, parameters, seed: 1, threads: 1 },
    optimizer: { type: "adamw", learningRate: 0.03 },
  });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++)
    losses.push((await engine.step({ step, runs: [batch], learningRateScale: 1 })).loss);
  const state = await engine.state();
  await engine.close();
  const values = new Map(Object.entries(state.parameters).map(([name, t]) => [name, t.data as Float32Array]));
  return { losses, state, program: training, adapter: adapterOf(adapted, values) };
}

/** Density loss of the model with an adapter's values. */
async function penaltyOf(model: Model, values: ReadonlyMap<string, { readonly data: unknown }>, options = {}) {
  const adapted = injectAdapter(model, { method: methodOf("LORA"), config: lora, wantedOutputs: ["logits"] });
  const { g } = adapted;
  g.output(densityPenalty(options).build(adapted)!, "density");
  const feeds = adapted.parameters.map(({ name, shape }) => [
    name,
    { type: "float32", dims: shape, data: values.get(name)!.data as Float32Array } as const,
  ]);
  const { density } = await runBuilder(g, { ...batch, ...Object.fromEntries(feeds) });
  return Number(density?.data[0]);
}

test("weight 0 leaves graph, losses and weights as they are; a weight lowers the density", async () => {
  const [plain, zero, strong] = [
    await trained([], 12),
    await trained([densityPenalty({ weight: 0 })], 12),
    await trained([densityPenalty({ weight: 3, eps: 0.5 })], 12),
  ];
  expect(Buffer.compare(zero.program.graph.bytes, plain.program.graph.bytes)).toBe(0);
  expect(zero.losses).toEqual(plain.losses);
  expect(zero.state).toEqual(plain.state);
  const at = (run: typeof plain) => penaltyOf(tinyModel(), run.adapter.tensors, { eps: 0.5 });
  expect(await at(strong)).toBeLessThan(0.9 * (await at(plain)));
  expect(strong.losses[0]).toBeGreaterThan(plain.losses[0] ?? 0);
});

test("patterns choose layers; what is missing is named", async () => {
  const model = tinyModel();
  const build = (options: object) => densityPenalty(options).build(inject(model));
  const start = initialParameters(inject(model), 1);
  const values = new Map([...start].map(([name, data]) => [name, { data }]));
  const each = await Promise.all(
    [0, 1].map((layer) => penaltyOf(model, values, { eps: 0.1, sites: `.*layer\\.${layer}\\..*` })),
  );
  expect(each[0]).not.toBeCloseTo(each[1]!, 4);
  expect(await penaltyOf(model, values, { eps: 0.1 })).toBeCloseTo((each[0]! + each[1]!) / 2, 5);
  expect(await penaltyOf(model, values, { eps: 0.1, weight: 4 })).toBeCloseTo(2 * (each[0]! + each[1]!), 5);
  expect(() => build({ sites: "nothing" })).toThrow(
    expect.objectContaining({ code: "ACTIVATIONS_NOT_FOUND", hint: expect.stringContaining("layer.0.intermediate") }),
  );
  expect(() => build({ maskPadding: true })).toThrow(expect.objectContaining({ code: "MASK_MISSING" }));
  expect(() => densityPenalty({ weight: -1 })).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
});

test("encoder and decoder are added up, not averaged", async () => {
  const model = await readModel(join(golden, "exports/t5/model_torchscript14.onnx"), { rangeThreshold: 0 });
  const output = model.graph.outputs[0]!.name;
  const found = async (options: object): Promise<number> => {
    const adapted = injectAdapter(model, {
      method: methodOf("LORA"),
      config: { r: 1, targetModules: ["wi"] } as AdapterConfigInput,
      wantedOutputs: [output],
    });
    const { g } = adapted;
    g.output(densityPenalty({ eps: 1e-3, ...options }).build(adapted)!, "density");
    const start = initialParameters(adapted, 1);
    const parameters = adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32", dims: shape, data: start.get(name)! } as const,
    ]);
    const ids = { type: "int64", dims: [2, 3], data: BigInt64Array.from([3n, 4n, 5n, 6n, 7n, 8n]) } as const;
    const ones = { type: "int64", dims: [2, 3], data: BigInt64Array.from({ length: 6 }, () => 1n) } as const;
    const feeds = { input_ids: ids, decoder_input_ids: ids, attention_mask: ones, decoder_attention_mask: ones };
    const { density } = await runBuilder(g, { ...feeds, ...Object.fromEntries(parameters) });
    return Number(density?.data[0]);
  };
  const [encoder, decoder] = [await found({ sites: "encoder.*" }), await found({ sites: "decoder.*" })];
  expect(encoder).not.toBeCloseTo(decoder, 3);
  expect(await found({ groups: "encoder-decoder" })).toBeCloseTo(encoder + decoder, 5);
  expect(await found({})).toBeCloseTo((encoder + decoder) / 2, 5);
});

describe("any method, over float and NF4 bases: only its own tensors get gradients", () => {
  const bases = { float: tinyModel(), nf4: quantizeModel(tinyModel(), { type: "nf4", blockSize: 16 }).model };
  const firstOf = [...new Map(triedConfigs.map((tried) => [tried.type, tried])).values()];
  test.each([
    ...firstOf.map((tried) => [tried.type, "float", tried] as const),
    ...firstOf.filter(({ type }) => /^(LORA|IA3)$/.test(type)).map((tried) => [tried.type, "nf4", tried] as const),
  ])("%s, %s", (type, base, { config }) => {
    const adapted = inject(bases[base], type, config);
    const names = trainableValues(adapted).map((v) => v.name);
    const outputs = (program: ReturnType<typeof programOf>): string[] =>
      decodeModel(program.graph.bytes).graph.outputs.map((v) => v.name);
    const program = programOf(adapted, [densityPenalty()]);
    expect(outputs(program)).toEqual([LOSS_SUM, LOSS_WEIGHT, ...names.map(gradientName)]);
  });
});

describe("the exact density of a model", () => {
  /** Two feed-forward blocks with ReLU over fed hidden states. */
  function reluModel(): Model {
    const g = createBuilder(17);
    const x = g.input("x", "float32", ["batch", "tokens", 2]);
    const weight = (name: string, dims: readonly number[], data: readonly number[]) =>
      g.initializer(name, tensorFrom("float32", dims, data));
    const linear = (name: string, input: typeof x, dims: readonly number[], data: readonly number[]) =>
      g.op(
        "MatMul",
        [input, weight(`${name}.weight`, dims, data)],
        {},
        { name: `/${name.replaceAll(".", "/")}/MatMul` },
      )[0]!;
    const block = (name: string, input: typeof x) =>
      linear(
        `${name}.down`,
        g.relu(linear(`${name}.up`, input, [2, 4], [1, -1, 0, 2, 0, 0, 1, 1])),
        [4, 2],
        [1, 0, 0, 1, 1, 1, 0, 1],
      );
    g.output(block("b.1", block("b.0", x)), "y");
    return toModel(g.finish(), 17);
  }
  const batches: Feeds[] = [
    { x: { type: "float32", dims: [1, 2, 2], data: Float32Array.from([1, 2, -3, 1]) } },
    { x: { type: "float32", dims: [2, 1, 2], data: Float32Array.from([0, 0, -1, -5]) } },
  ];

  test("of ReLU it is the share of positive inputs, over all samples", async () => {
    const { density, layers } = await activationDensity(reluModel(), batches, { isolation: "inline", threads: 1 });
    // Before the first ReLU: [1, -1, 2, 4], [-3, 3, 1, -5]; [0, 0, 0, 0]; [-1, 1, -5, -7]. Samples: 5/8, 0, 1/4.
    const share = expect.closeTo((5 / 8 + 0 + 1 / 4) / 3, 6);
    expect(layers[0]).toEqual({ name: "b.0.up", density: share, surrogate: share }); // far from zero both are the same
    expect(density).toBeCloseTo((layers[0]!.density + layers[1]!.density) / 2, 6);
  });

  test("with an adapter in effect", async () => {
    const model = tinyModel();
    const { adapter } = await trained([], 3);
    const input = { input_ids: batch["input_ids"]! };
    const found = await activationDensity(model, [input], { adapter, isolation: "inline", threads: 1 });
    expect(found.density).toBe(1); // tanh is never zero
    expect(found.surrogate).toBeLessThan(1);
    const values = adapter.tensors;
    expect(found.surrogate).toBeCloseTo(await penaltyOf(model, values, { eps: 1e-7 }), 5);
    expect(found.layers).toHaveLength(2);
    await expect(activationDensity(model, [])).rejects.toMatchObject({ code: "NO_DATA" });
  });

  test("reports every batch, stops at a signal, and knows its options", async () => {
    const engine = { isolation: "inline", threads: 1, device: "cpu" } as const;
    let count = 0;
    const onBatch = () => {
      count++;
    };
    await activationDensity(reluModel(), batches, { ...engine, onBatch });
    expect(count).toBe(batches.length);
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(activationDensity(reluModel(), batches, { ...engine, signal })).rejects.toThrow("enough");
    const misspelt = { ...engine, site: "up" };
    await expect(activationDensity(reluModel(), batches, misspelt)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});
