import { initialParameters } from "../../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter } from "../../adapters/inject.ts";
import type { AdapterConfigInput } from "../../adapters/select.ts";
import { tinyModel } from "../../adapters/testing/tiny-model.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { buildAdapterProgram } from "../../train/adapter-program.ts";
import { createEngine, type Engine } from "../../train/engine.ts";
import { methodOf } from "../registry.ts";

/** One training of the tiny model with a method: engine, adapted graph, and its batches. */
export interface TinyTraining {
  readonly adapted: AdaptedGraph;
  readonly engine: Engine;
  /** Makes steps `from` to `to` (exclusive) and returns their losses. */
  steps(from: number, to: number): Promise<number[]>;
  /** A tensor of the adapter, from the engine's state. */
  values(name: string): Promise<Float32Array>;
}

/** Eight sequences of five tokens; the class follows from the first two. */
function batch(): Feeds {
  const random = testRandom(5);
  const ids = Array.from({ length: 40 }, () => Math.floor(random() * 11));
  const labels = Array.from({ length: 8 }, (_, row) => ((ids[row * 5] ?? 0) + (ids[row * 5 + 1] ?? 0)) % 3);
  return {
    input_ids: { type: "int64", dims: [8, 5], data: BigInt64Array.from(ids, BigInt) },
    labels: { type: "int64", dims: [8], data: BigInt64Array.from(labels, BigInt) },
  };
}

/** Opens an engine over the tiny model with an adapter, in this thread. */
export async function tinyTraining(
  type: string,
  config: Readonly<Record<string, unknown>>,
  { totalSteps = 20, seed = 3, learningRate = 0.02 } = {},
): Promise<TinyTraining> {
  const adapted = injectAdapter(prepareModel(tinyModel()), {
    method: methodOf(type),
    config: config as AdapterConfigInput,
    wantedOutputs: ["logits"],
    training: true,
  });
  const { g } = adapted;
  const logits = adapted.outputs.get("logits");
  if (!logits) throw new Error("the tiny model has logits");
  const labels = g.input("labels", "int64", [logits.shape[0] ?? "batch"]);
  const program = buildAdapterProgram(adapted, crossEntropy(g, { logits, labels }));
  const start = initialParameters(adapted, seed);
  const engine = await createEngine(onnxruntimeNode, {
    training: program,
    parameters: Object.fromEntries(
      adapted.parameters.map(({ name, shape }) => [
        name,
        { type: "float32", dims: shape, data: start.get(name) ?? new Float32Array() } as const,
      ]),
    ),
    optimizer: { type: "adamw", learningRate },
    seed,
    threads: 1,
    totalSteps,
  });
  const runs = [batch()];
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
