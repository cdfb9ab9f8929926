import { parameterTensors } from "../../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter } from "../../adapters/inject.ts";
import type { AdapterConfigInput } from "../../adapters/select.ts";
import type { Builder } from "../../graph/builder.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import type { LossParts } from "../../losses/loss-parts.ts";
import { meanSquaredError } from "../../losses/mean-squared-error.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import type { OptimizerInput } from "../../optim/optimizer-config.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { buildAdapterProgram } from "../../train/adapter-program.ts";
import { createEngine, type Engine } from "../../train/engine.ts";
import type { AdapterTensor } from "../method.ts";
import { methodOf } from "../registry.ts";
import { type Ground, groundOf } from "./grounds.ts";
import { rowFeeds } from "./row-feeds.ts";
import { startValues } from "./start-values.ts";

/** One training of the tiny model with a method: engine, adapted graph, and its batches. */
export interface TinyTraining {
  readonly adapted: AdaptedGraph;
  readonly engine: Engine;
  /** Makes steps `from` to `to` (exclusive) and returns their losses. */
  steps(from: number, to: number): Promise<number[]>;
  /** A tensor of the adapter, from the engine's state. */
  values(name: string): Promise<Float32Array>;
}

/** Eight samples for a ground's input; the class follows from the first two entries of each. */
function batchFor({ feeds }: Ground): Feeds {
  const random = testRandom(5);
  const [[name, { type, dims }]] = Object.entries(feeds) as [[string, RuntimeTensor]];
  const size = dims.slice(1).reduce((a, b) => a * b, 1);
  const draw = type === "int64" ? () => Math.floor(random() * 11) : () => random() * 2 - 1;
  const values = Array.from({ length: 8 * size }, draw);
  const labels = Array.from({ length: 8 }, (_, row) => {
    const [first = 0, second = 0] = values.slice(row * size);
    return type === "int64" ? (first + second) % 3 : Number(first > 0) + Number(second > 0);
  });
  const data = type === "int64" ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
  return {
    [name]: { type, dims: [8, ...dims.slice(1)], data } as RuntimeTensor,
    labels: { type: "int64", dims: [8], data: BigInt64Array.from(labels, BigInt) },
  };
}

export interface TinyOptions {
  readonly totalSteps?: number;
  readonly seed?: number;
  readonly learningRate?: number;
  /** In the place of AdamW with `learningRate`. */
  readonly optimizer?: OptimizerInput;
  /** Changes start values in place. */
  readonly start?: (values: ReadonlyMap<string, Float32Array>) => void;
  /** In the place of the transformer block and its labels. */
  readonly task?: TinyTask;
}

/** A model, its loss, and the micro-batches of every step. */
export interface TinyTask {
  readonly model: Model;
  readonly output: string;
  readonly runs: readonly Feeds[];
  loss(g: Builder, output: Value): LossParts;
}

/** Classification on a ground. */
export const groundTask = (ground: Ground): TinyTask => ({
  model: ground.model,
  output: "logits",
  runs: [batchFor(ground)],
  loss(g, logits) {
    return crossEntropy(g, { logits, labels: g.input("labels", "int64", [logits.shape[0] ?? "batch"]) });
  },
});

/** Regression: the mean squared error of a model's y for rows x. */
export const regression = (model: Model, x: AdapterTensor, labels: AdapterTensor): TinyTask => ({
  model,
  output: "y",
  runs: [{ x: { type: "float32", ...x }, labels: { type: "float32", ...labels } }],
  loss(g, predictions) {
    return meanSquaredError(g, { predictions, labels: g.input("labels", "float32", predictions.shape) });
  },
});

/** Opens an engine over the tiny model with an adapter, in this thread. */
export async function tinyTraining(
  type: string,
  config: Readonly<Record<string, unknown>>,
  {
    totalSteps = 20,
    seed = 3,
    learningRate = 0.02,
    optimizer,
    start: changed,
    task = groundTask(groundOf("transformer block")),
  }: TinyOptions = {},
): Promise<TinyTraining> {
  const adapted = injectAdapter(prepareModel(task.model), {
    method: methodOf(type),
    config: config as AdapterConfigInput,
    wantedOutputs: [task.output],
    training: true,
  });
  const { g } = adapted;
  const output = adapted.outputs.get(task.output);
  if (!output) throw new Error(`the model has no output "${task.output}"`);
  const program = buildAdapterProgram(adapted, task.loss(g, output));
  const start = startValues(adapted, seed);
  changed?.(start);
  const engine = await createEngine(onnxruntimeNode, {
    training: program,
    parameters: parameterTensors(adapted.parameters, start),
    optimizer: optimizer ?? { type: "adamw", learningRate },
    seed,
    threads: 1,
    totalSteps,
  });
  const rows = rowFeeds({ type, config: config as AdapterConfigInput }, 8);
  const runs = task.runs.map((feeds) => ({ ...feeds, ...rows }));
  return {
    adapted,
    engine,
    async steps(from, to) {
      const losses: number[] = [];
      for (let step = from; step < to; step++)
        losses.push((await engine.step({ step, runs, learningRateScale: 1 })).loss);
      return losses;
    },
    async values(name) {
      return (await engine.state()).parameters[name]?.data as Float32Array;
    },
  };
}
