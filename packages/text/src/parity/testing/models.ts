import {
  type AdapterConfigInput,
  differentiate,
  initialParameters,
  injectAdapter,
  type Method,
  type RuntimeTensor,
  trainableValues,
} from "@onnx-peft/core";
import { openBuilder } from "@onnx-peft/core/testing";
import type { Head } from "../../models/encoder.ts";
import type { TextModel } from "../../models/load-text-model.ts";
import { sentenceEmbedding } from "../../tasks/sentence-embedding.ts";
import { sequenceClassification } from "../../tasks/sequence-classification.ts";
import type { TaskGraph, TextTask } from "../../tasks/task.ts";
import { taskGraph } from "../../tasks/task-graph.ts";
import { tokenClassification } from "../../tasks/token-classification.ts";
import { feedsOf, type GoldenTensors } from "./golden.ts";

const labels = ["a", "b", "c"];

/** The task whose loss the golden numbers of a model are for. */
export interface GoldenTask {
  readonly head: Head;
  loss(graph: TaskGraph): ReturnType<TextTask<never>["loss"]>;
}

export function goldenTask(name: string): GoldenTask {
  if (name === "bert-model") return sentenceEmbedding({ objective: "multiple-negatives", temperature: 0.05 });
  if (name === "bert-token") return tokenClassification({ labels });
  return sequenceClassification({ labels });
}

export interface Measured {
  readonly loss: number;
  readonly output: Float32Array;
  /** By name of the parameter. */
  readonly gradients: Map<string, Float32Array>;
}

/** Output, loss and gradients of a model with an adapter, over the golden batch. */
export async function measure<C extends object>(
  { model }: TextModel,
  task: GoldenTask,
  method: Method<C>,
  config: AdapterConfigInput<C>,
  tensors: GoldenTensors,
  /** Values of the adapter; default those it starts with. */
  values?: ReadonlyMap<string, Float32Array>,
): Promise<Measured> {
  const adapted = injectAdapter(model, { method, config });
  const { g } = adapted;
  const graph = taskGraph(adapted);
  const { sum, weight } = task.loss(graph);
  const loss = g.div(sum, weight);
  const wanted = trainableValues(adapted);
  const gradients = differentiate(g, [{ value: loss }], wanted);
  g.output(graph.output, "output");
  g.output(loss, "loss");
  gradients.forEach((d, i) => {
    g.output(d, `d.${wanted[i]?.name}`);
  });
  const session = await openBuilder(g);
  const start = values ?? initialParameters(adapted, 0);
  const feeds: Record<string, RuntimeTensor> = feedsOf(tensors, "input.", session.inputNames);
  for (const { name, shape } of adapted.parameters) {
    feeds[name] = { type: "float32", dims: shape, data: start.get(name) ?? new Float32Array(0) };
  }
  const result = await session.run(feeds);
  await session.close();
  const floats = (name: string): Float32Array => result[name]?.data as Float32Array;
  return {
    loss: floats("loss")[0] ?? Number.NaN,
    output: floats("output"),
    gradients: new Map(wanted.map(({ name }) => [name, floats(`d.${name}`)])),
  };
}
