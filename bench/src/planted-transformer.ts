import {
  type AdaptedGraph,
  type Adapter,
  type AdapterConfigInput,
  adapterOf,
  attentionBias,
  buildAdapterProgram,
  createBuilder,
  createRandom,
  type EncoderNames,
  encodeModel,
  encoderBlock,
  type Feeds,
  findSites,
  initialParameters,
  injectAdapter,
  linear,
  lora,
  type Method,
  type Model,
  meanSquaredError,
  mergeAdapter,
  methodOf,
  onnxruntimeNode,
  parameterTensors,
  type RuntimeTensor,
  type StartTensor,
  tensorFrom,
  toModel,
  train,
  trainedCount,
  weightReader,
} from "@onnx-peft/core";

export const plantedSizes = {
  vocabulary: 60,
  hidden: 32,
  intermediate: 64,
  heads: 4,
  layers: 2,
  outputs: 8,
  tokens: 10,
};

const namesOf = (layer: number): EncoderNames => {
  const at = `encoder.layer.${layer}`;
  return {
    ...{ query: `${at}.attention.query`, key: `${at}.attention.key`, value: `${at}.attention.value` },
    ...{ output: `${at}.attention.output`, attentionNorm: `${at}.attention.norm` },
    ...{ up: `${at}.up`, down: `${at}.down`, outputNorm: `${at}.norm` },
  };
};

/** A transformer encoder with random weights, six linear modules a layer and a linear head over the mean of its states. */
export function plantedTransformer(seed: string, layers = plantedSizes.layers): Model {
  const { vocabulary, hidden, intermediate, heads, outputs } = plantedSizes;
  const random = createRandom(`planted transformer ${seed}`);
  const tensors = new Map<string, ReturnType<typeof tensorFrom>>();
  const draw = (name: string, dims: readonly number[], std: number, mean = 0): void => {
    const size = dims.reduce((a, b) => a * b, 1);
    tensors.set(name, tensorFrom("float32", dims, random.fillNormal(new Float32Array(size), mean, std)));
  };
  draw("embeddings.weight", [vocabulary, hidden], 1);
  for (let layer = 0; layer < layers; layer++) {
    const names = namesOf(layer);
    const widths: Record<string, [number, number]> = {
      ...{ [names.query]: [hidden, hidden], [names.key]: [hidden, hidden], [names.value]: [hidden, hidden] },
      ...{ [names.output]: [hidden, hidden], [names.up]: [intermediate, hidden], [names.down]: [hidden, intermediate] },
    };
    for (const [name, [out, width]] of Object.entries(widths)) {
      // Queries and keys are larger: attention looks at something.
      draw(`${name}.weight`, [out, width], (/query|key/.test(name) ? 2 : 1.4) / Math.sqrt(width));
      draw(`${name}.bias`, [out], 0.1);
    }
    for (const name of [names.attentionNorm, names.outputNorm]) {
      draw(`${name}.weight`, [hidden], 0.1, 1);
      draw(`${name}.bias`, [hidden], 0.1);
    }
  }
  draw("head.weight", [outputs, hidden], 2 / Math.sqrt(hidden));
  draw("head.bias", [outputs], 0.1);
  const g = createBuilder(21);
  const w = weightReader(g, tensors);
  const shape = ["batch", "tokens"] as const;
  const ids = g.input("input_ids", "int64", shape);
  const mask = g.input("attention_mask", "int64", shape);
  const table = w.weight("embeddings.weight", [vocabulary, hidden]);
  const bias = attentionBias(g, mask);
  const sizes = {
    ...{ hiddenSize: hidden, heads, intermediateSize: intermediate, layerNormEps: 1e-5 },
    ...{ hiddenDropout: 0, attentionDropout: 0, activation: "gelu" as const },
  };
  let x = g.reshape(g.gather(table, ids), ["batch*tokens", hidden], ids);
  for (let layer = 0; layer < layers; layer++)
    x = encoderBlock(g, w, namesOf(layer), x, bias, "batch", "tokens", sizes);
  const states = g.reshape(x, ["batch", "tokens", hidden]);
  g.output(linear(g, w, "head", g.reduceMean(states, [1], false), hidden, outputs), "logits");
  w.check();
  return toModel(g.finish({ name: "planted" }), 21);
}

/** A sample: its tokens, and what the changed network says to them. */
export interface PlantedSample {
  readonly ids: readonly number[];
  readonly target: readonly number[];
}

export interface Planted {
  readonly model: Model;
  /** The linear modules of the layers that may be changed, in order. */
  readonly modules: readonly string[];
  /** Those that were changed. */
  readonly changed: readonly string[];
  readonly train: readonly PlantedSample[];
  readonly test: readonly PlantedSample[];
}

export const idsOf = (samples: readonly Pick<PlantedSample, "ids">[]): Record<string, RuntimeTensor> => {
  const dims = [samples.length, plantedSizes.tokens];
  return {
    input_ids: { type: "int64", dims, data: BigInt64Array.from(samples.flatMap(({ ids }) => ids.map(BigInt))) },
    attention_mask: { type: "int64", dims, data: new BigInt64Array(samples.length * plantedSizes.tokens).fill(1n) },
  };
};

/** Feeds of a training on the planted targets. */
export const plantedFeeds = (samples: readonly PlantedSample[]): Feeds => ({
  ...idsOf(samples),
  labels: {
    type: "float32",
    dims: [samples.length, plantedSizes.outputs],
    data: Float32Array.from(samples.flatMap(({ target }) => target)),
  },
});

/**
 * A problem with a known answer: samples are labelled by the same network with changes of low rank at some modules.
 * @param changes the rank of the change at each changed module; its size is `size` times that of the weight, and each of its
 * components is `fall` times the one before
 * @param among names of modules that may be changed
 */
export async function plantedProblem(
  seed: number,
  changes: readonly number[],
  { size = 0.6, train = 512, test = 256, layers = plantedSizes.layers, among = /./, fall = 1 } = {},
): Promise<Planted> {
  const model = plantedTransformer(`${seed}`, layers);
  const modules = findSites(model)
    .filter(({ kind, name }) => kind === "linear" && name !== "head" && among.test(name))
    .map(({ name }) => name);
  const random = createRandom(`planted changes ${seed}`);
  const order = random.permutation(modules.length);
  const changed = changes.map((_, i) => modules[order[i] ?? 0] ?? "");
  let teacher = model;
  changes.forEach((r, i) => {
    const adapted = injectAdapter(model, { method: lora, config: { r, alpha: r, targetModules: [changed[i] ?? ""] } });
    const { site } = adapted.plans[0] as (typeof adapted.plans)[number];
    const frozen = /query|key/.test(site.name) ? 2 : 1.4;
    const parts = Array.from({ length: r }, (_, k) => fall ** k);
    // |B·A| over |W| is `size`: entries of B·A have variance |b|² for A ~ N(0, 1), b the deviations of B's columns.
    const b = (size * frozen) / Math.sqrt(site.inFeatures * parts.reduce((sum, part) => sum + part ** 2, 0));
    const values = new Map(
      [...initialParameters(adapted, seed)].map(([name, v]) => {
        if (!name.endsWith("lora_B.weight")) return [name, random.fillNormal(v, 0, 1)] as const;
        return [name, random.fillNormal(v, 0, b).map((value, i) => value * (parts[i % r] as number))] as const;
      }),
    );
    teacher = mergeAdapter(teacher, adapterOf(adapted, values));
  });
  const session = await onnxruntimeNode.open(encodeModel(teacher), { threads: 1 });
  const { tokens, vocabulary, outputs } = plantedSizes;
  const samples = Array.from({ length: train + test }, () => ({
    ids: Array.from({ length: tokens }, () => random.integer(vocabulary)),
  }));
  const { logits } = await session.run(idsOf(samples));
  await session.close();
  const rows = logits?.data as Float32Array;
  const labelled = samples.map(({ ids }, i) => ({ ids, target: [...rows.subarray(i * outputs, (i + 1) * outputs)] }));
  return { model, modules, changed, train: labelled.slice(0, train), test: labelled.slice(train) };
}

/** A training on a planted problem. */
export interface PlantedRun {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly seed: number;
  readonly steps: number;
  readonly start?: ReadonlyMap<string, StartTensor>;
  /** A method that is not registered. */
  readonly method?: Method;
}

export interface PlantedResult {
  /** Share of the test targets' variance that is explained by what was learnt, 0 for the unchanged model. */
  readonly score: number;
  readonly parameters: number;
  /** Rank of every adapted module. */
  readonly ranks: Readonly<Record<string, number>>;
}

const BATCH = 32;

/** Trains an adapter towards the changed network and judges it on other samples. */
export async function trainPlanted(planted: Planted, run: PlantedRun): Promise<PlantedResult> {
  const { adapted, adapter } = await tunePlanted(planted, run);
  const ranks = adapted.plans.map(({ site, parameters }) => {
    const a = parameters.find(({ role }) => role === "A")?.name ?? "";
    return [site.name, adapter.tensors.get(a)?.dims[0] ?? 0] as const;
  });
  return {
    score: await scoreOf(planted, adapter),
    parameters: trainedCount(adapted, adapter),
    ranks: Object.fromEntries(ranks),
  };
}

/** The adapter of such a training. */
export async function tunePlanted(
  { model, train: samples }: Planted,
  run: PlantedRun,
): Promise<{ readonly adapted: AdaptedGraph; readonly adapter: Adapter }> {
  const { type, config, learningRate, seed, steps, start = new Map<string, StartTensor>() } = run;
  const method = run.method ?? methodOf(type);
  const adapted = injectAdapter(model, { method, config: config as AdapterConfigInput, training: true });
  const values = initialParameters(adapted, seed);
  for (const [name, { data }] of start) values.set(name, data);
  const loss = plantedLoss(adapted);
  const result = await train<PlantedSample>({
    training: buildAdapterProgram(adapted, loss),
    parameters: parameterTensors(adapted.parameters, values),
    data: { samples, lengthOf: ({ ids }) => ids.length, collate: (some) => plantedFeeds(some) },
    options: {
      ...{ epochs: (steps * BATCH) / samples.length, batchSize: BATCH, microBatchTokens: 4096, seed, threads: 1 },
      ...{ isolation: "inline", availableMemory: "unlimited", maxGradNorm: 1 },
      optimizer: { type: "adamw", learningRate },
      schedule: { type: "linear", warmupRatio: 0.06 },
    },
  });
  return { adapted, adapter: adapterOf(adapted, new Map(Object.entries(result.parameters))) };
}

/** Share of the test targets' variance that an adapter explains, 0 for the unchanged model. */
export async function scoreOf({ model, test }: Planted, adapter: Adapter): Promise<number> {
  const errorOf = async (of: Model): Promise<number> => {
    const session = await onnxruntimeNode.open(encodeModel(of), { threads: 1 });
    const { logits } = await session.run(idsOf(test));
    await session.close();
    const wanted = test.flatMap(({ target }) => target);
    return wanted.reduce((sum, value, i) => sum + (value - Number(logits?.data[i])) ** 2, 0);
  };
  return 1 - (await errorOf(mergeAdapter(model, adapter))) / (await errorOf(model));
}

/** Mean squared distance to the changed network's outputs. */
export const plantedLoss = (adapted: ReturnType<typeof injectAdapter>) =>
  meanSquaredError(adapted.g, {
    predictions: adapted.outputs.get("logits") ?? adapted.g.value("logits"),
    labels: adapted.g.input("labels", "float32", ["batch", plantedSizes.outputs]),
  });
