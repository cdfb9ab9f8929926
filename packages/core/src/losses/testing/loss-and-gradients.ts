import { differentiate } from "../../autodiff/differentiate.ts";
import type { Builder } from "../../graph/builder.ts";
import { createBuilder } from "../../graph/builder.ts";
import type { Value } from "../../onnx/ir.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import { runBuilder } from "../../testing/run-graph.ts";
import type { LossParts } from "../loss-parts.ts";

/** A loss input with its values; `frozen` ones and integers are not differentiated. */
export interface LossInput {
  readonly dims: readonly number[];
  readonly data: readonly number[];
  readonly type?: "int64";
  readonly frozen?: boolean;
}

const tensorOf = ({ dims, data, type }: LossInput): RuntimeTensor =>
  type === "int64"
    ? { type, dims, data: BigInt64Array.from(data, (v) => BigInt(v)) }
    : { type: "float32", dims, data: Float32Array.from(data) };

/** Runs a loss once with symbolic batch axes: its parts, the mean, and the mean's gradient for every trained input. */
export async function lossAndGradients(
  build: (g: Builder, inputs: Record<string, Value>) => LossParts,
  inputs: Readonly<Record<string, LossInput>>,
): Promise<{ sum: number; weight: number; loss: number; gradients: Record<string, number[]> }> {
  const g = createBuilder();
  const values: Record<string, Value> = {};
  for (const [name, input] of Object.entries(inputs)) {
    const shape = input.dims.map((d, axis) => (axis === 0 ? `batch${d}` : d));
    values[name] = g.input(name, input.type ?? "float32", shape);
  }
  const parts = build(g, values);
  const trained = Object.entries(inputs).flatMap(([name, i]) => (i.frozen || i.type ? [] : [name]));
  const wanted = trained.map((name) => g.value(name));
  const gradients = differentiate(g, [{ value: g.div(parts.sum, parts.weight) }], wanted);
  g.output(parts.sum, "sum");
  g.output(parts.weight, "weight");
  gradients.forEach((v, i) => {
    g.output(v, `d.${trained[i]}`);
  });
  const run = await runBuilder(g, Object.fromEntries(Object.entries(inputs).map(([n, i]) => [n, tensorOf(i)])));
  const numbers = (name: string): number[] => Array.from((run[name]?.data ?? []) as Float32Array);
  const [sum = Number.NaN, weight = Number.NaN] = [...numbers("sum"), ...numbers("weight")];
  return {
    sum,
    weight,
    loss: sum / weight,
    gradients: Object.fromEntries(trained.map((name) => [name, numbers(`d.${name}`)])),
  };
}
