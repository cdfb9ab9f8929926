import {
  type AdapterConfigInput,
  buildAdapterProgram,
  createEngine,
  createEngineProcess,
  createRandom,
  type EngineSetup,
  type Feeds,
  injectAdapter,
  methodOf,
  onnxruntimeNode,
  type Value,
} from "@onnx-peft/core";
import { sequenceClassification, startValues, type TextModel, taskGraph } from "@onnx-peft/text";

/** A model and the batch of its steps. */
export interface StepShape {
  readonly model: TextModel;
  readonly labels: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly tokens: number;
}

/** A method at one setting, with modules. */
export interface MeasuredMethod {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface StepCost {
  /** CPU time of a step, the median, in milliseconds. */
  readonly stepMs: number;
  /** That of the method beside it, taken in alternation. */
  readonly referenceMs: number;
  /** Highest resident memory of the process that trains with it. */
  readonly peakBytes: number;
}

/** Long enough that schedules (AdaLoRA's budget) are under way and not over. */
const TOTAL_STEPS = 1000;
const WARM_UP = 2;

function setupOf({ model, labels }: StepShape, { type, config }: MeasuredMethod) {
  const task = sequenceClassification({ labels: Array.from({ length: labels }, (_, i) => String(i)) });
  const adapted = injectAdapter(model.model, {
    ...{ method: methodOf(type), wantedOutputs: ["logits"], training: true },
    config: { ...config, modulesToSave: ["classifier"] } as AdapterConfigInput,
  });
  return {
    training: buildAdapterProgram(adapted, task.loss(taskGraph(adapted, task.head))),
    parameters: startValues(adapted, 1),
    optimizer: { type: "adamw", learningRate: 1e-4 },
    ...{ seed: 1, threads: 1, totalSteps: TOTAL_STEPS },
  } satisfies EngineSetup;
}

/** Random ids for a graph's inputs; what a method reads for every row (ids of tasks, weights of branches) is that of the first branch. */
function batchOf(shape: StepShape, inputs: readonly Value[]): Feeds {
  const random = createRandom(2);
  const { batch, tokens } = shape;
  const int64 = (dims: readonly number[], below: number): Feeds[string] => ({
    ...{ type: "int64", dims },
    data: BigInt64Array.from({ length: dims.reduce((a, b) => a * b) }, () => BigInt(random.integer(below))),
  });
  const dims = [batch, tokens];
  const feeds: Feeds = {
    input_ids: int64(dims, shape.vocabulary),
    attention_mask: { type: "int64", dims, data: new BigInt64Array(batch * tokens).fill(1n) },
    token_type_ids: int64(dims, 1),
    labels: int64([batch], shape.labels),
  };
  const rowFeed = ({ type, shape: [, ...rest] }: Value): Feeds[string] => {
    const rows = [batch, ...rest.map(Number)];
    const count = rows.reduce((a, b) => a * b);
    return type === "int64"
      ? { type, dims: rows, data: new BigInt64Array(count) }
      : { type: "float32", dims: rows, data: new Float32Array(count).fill(1) };
  };
  return Object.fromEntries(inputs.map((input) => [input.name, feeds[input.name] ?? rowFeed(input)]));
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

type Setup = ReturnType<typeof setupOf>;

/** CPU times of steps of two engines in alternation on one thread of this process: what other programs do to the clock falls on both. */
async function alternate(
  shape: StepShape,
  setups: readonly [Setup, Setup],
  steps: number,
): Promise<Omit<StepCost, "peakBytes">> {
  const engines = [await createEngine(onnxruntimeNode, setups[0]), await createEngine(onnxruntimeNode, setups[1])];
  try {
    const batches = setups.map(({ training }) => batchOf(shape, training.inputs));
    const times: [number[], number[]] = [[], []];
    for (let step = 0; step < WARM_UP + steps; step++) {
      for (const [i, engine] of engines.entries()) {
        const before = process.cpuUsage();
        await engine.step({ step, runs: [batches[i] as Feeds], learningRateScale: 1 });
        const { user, system } = process.cpuUsage(before);
        if (step >= WARM_UP) times[i as 0 | 1].push((user + system) / 1000);
      }
    }
    return { stepMs: median(times[0]), referenceMs: median(times[1]) };
  } finally {
    for (const engine of engines) await engine.close();
  }
}

/** Highest resident memory of a process that makes three training steps. */
async function peakOf(shape: StepShape, setup: Setup): Promise<number> {
  const engine = await createEngineProcess(setup);
  try {
    const runs = [batchOf(shape, setup.training.inputs)];
    let peakBytes = 0;
    for (let step = 0; step < 3; step++)
      peakBytes = (await engine.step({ step, runs, learningRateScale: 1 })).peakRssBytes;
    return peakBytes;
  } finally {
    await engine.close();
  }
}

/** Time of a training step of a method beside that of a reference, and its peak memory. */
export async function measureCost(
  shape: StepShape,
  method: MeasuredMethod,
  reference: MeasuredMethod,
  steps: number,
): Promise<StepCost> {
  const setups = [setupOf(shape, method), setupOf(shape, reference)] as const;
  return { ...(await alternate(shape, setups, steps)), peakBytes: await peakOf(shape, setups[0]) };
}

/** Highest resident memory of the process that trains with a method. */
export const measurePeak = (shape: StepShape, method: MeasuredMethod): Promise<number> =>
  peakOf(shape, setupOf(shape, method));
