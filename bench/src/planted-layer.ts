import {
  type Adapter,
  type AdapterConfigInput,
  adapterOf,
  buildAdapterProgram,
  createBuilder,
  createEngine,
  createRandom,
  initialParameters,
  injectAdapter,
  type Model,
  meanSquaredError,
  mergeAdapter,
  methodOf,
  onnxruntimeNode,
  parameterCount,
  parameterTensors,
  tensorFrom,
  toFloat32Array,
  toModel,
} from "@onnx-peft/core";

/** A matrix, row by row. */
export interface Rows {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/** Normal numbers. */
export function gaussian(rows: number, columns: number, seed: string, std = 1): Rows {
  return { rows, columns, data: createRandom(seed).fillNormal(new Float32Array(rows * columns), 0, std) };
}

export const times = (a: Rows, b: Rows): Rows => {
  const data = new Float32Array(a.rows * b.columns);
  for (let i = 0; i < a.rows; i++)
    for (let k = 0; k < a.columns; k++) {
      const factor = a.data[i * a.columns + k] as number;
      for (let j = 0; j < b.columns; j++)
        data[i * b.columns + j] = (data[i * b.columns + j] as number) + factor * (b.data[k * b.columns + j] as number);
    }
  return { rows: a.rows, columns: b.columns, data };
};
export const plus = (a: Rows, b: Rows, factor = 1): Rows => ({
  ...a,
  data: a.data.map((v, i) => v + factor * (b.data[i] as number)),
});
export const identityRows = (n: number): Rows => ({
  rows: n,
  columns: n,
  data: Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
});
export const energy = ({ data }: Rows): number => data.reduce((sum, v) => sum + v * v, 0);

/** One frozen linear layer "dense" and the weight that an adapter is to turn it into. */
export interface PlantedLayer {
  /** [out, in] */
  readonly weight: Rows;
  readonly target: Rows;
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly steps: number;
  readonly seed: number;
  /** Of the learning rate; default linear. */
  readonly schedule?: "linear" | "constant";
}

export interface PlantedResult {
  /** |target - adapted|² / |target - weight|². */
  readonly residual: number;
  readonly parameters: number;
}

function layerModel({ rows, columns, data }: Rows): Model {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["rows", columns]);
  const weight = g.initializer("dense.weight", tensorFrom("float32", [rows, columns], data));
  const [y] = g.op("Gemm", [x, weight], { transB: 1 }, { name: "/dense/Gemm" });
  if (!y) throw new RangeError("Gemm has an output.");
  g.output(y, "y");
  return toModel(g.finish({ name: "planted" }), 17);
}

/**
 * Trains an adapter at one layer so that it maps every unit vector as the target does: least squares on the change itself, by AdamW.
 */
export async function trainPlanted(layer: PlantedLayer): Promise<PlantedResult> {
  const { adapter, parameters } = await tunePlanted(layer);
  return { residual: residualOf(layer, adapter), parameters };
}

/** Share of the squared change that is left with an adapter. */
export function residualOf({ weight, target }: Pick<PlantedLayer, "weight" | "target">, adapter: Adapter): number {
  const merged = mergeAdapter(layerModel(weight), adapter).graph.initializers.get("dense.weight");
  if (!merged) throw new RangeError("The merged layer has a weight.");
  const after: Rows = { ...weight, data: toFloat32Array(merged) };
  return energy(plus(target, after, -1)) / energy(plus(target, weight, -1));
}

/** The adapter of such a training. */
export async function tunePlanted({
  weight,
  target,
  type,
  config,
  learningRate,
  steps,
  seed,
  schedule = "linear",
}: PlantedLayer): Promise<{ readonly adapter: Adapter; readonly parameters: number }> {
  const model = layerModel(weight);
  const method = methodOf(type);
  const adapted = injectAdapter(model, {
    ...{ method, wantedOutputs: ["y"], training: true },
    config: { ...config, targetModules: ["dense"] } as AdapterConfigInput,
  });
  const predictions = adapted.outputs.get("y");
  if (!predictions) throw new RangeError("The layer has an output.");
  const labels = adapted.g.input("labels", "float32", predictions.shape);
  const program = buildAdapterProgram(adapted, meanSquaredError(adapted.g, { predictions, labels }));
  const engine = await createEngine(onnxruntimeNode, {
    training: program,
    parameters: parameterTensors(adapted.parameters, initialParameters(adapted, seed)),
    optimizer: { type: "adamw", learningRate },
    ...{ seed, threads: 1, totalSteps: steps },
  });
  const { rows, columns } = weight;
  const transposed = Float32Array.from(
    { length: rows * columns },
    (_, i) => target.data[(i % rows) * columns + Math.floor(i / rows)] as number,
  );
  const feeds = {
    x: { type: "float32", dims: [columns, columns], data: identityRows(columns).data },
    labels: { type: "float32", dims: [columns, rows], data: transposed },
  } as const;
  try {
    for (let step = 0; step < steps; step++) {
      await engine.step({ step, runs: [feeds], learningRateScale: schedule === "linear" ? 1 - step / steps : 1 });
    }
    const { parameters } = await engine.state();
    const values = new Map(Object.entries(parameters).map(([name, { data }]) => [name, data as Float32Array]));
    const sites = adapted.plans.map(({ site }) => site);
    const [plan] = adapted.plans;
    return {
      adapter: adapterOf(adapted, values),
      parameters: plan ? parameterCount(plan.method, plan.config, sites) : 0,
    };
  } finally {
    await engine.close();
  }
}

/** The smallest residual over some learning rates. */
export async function bestPlanted(
  layer: Omit<PlantedLayer, "learningRate">,
  rates: readonly number[],
): Promise<PlantedResult> {
  const results = [];
  for (const learningRate of rates) results.push(await trainPlanted({ ...layer, learningRate }));
  return results.reduce((a, b) => (b.residual < a.residual ? b : a));
}

export { mean } from "./mean.ts";
