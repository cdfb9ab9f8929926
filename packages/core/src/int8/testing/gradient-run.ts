import { differentiate } from "../../autodiff/differentiate.ts";
import type { Builder } from "../../graph/builder.ts";
import { importGraph } from "../../graph/import-graph.ts";
import type { Model } from "../../onnx/ir.ts";
import { opsetOf } from "../../onnx/opset.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { openBuilder } from "../../testing/run-graph.ts";
import { applyInt8Plan } from "../apply-plan.ts";
import type { Int8Plan } from "../plan.ts";

/** Loss sum(y * dy), its gradient with respect to x. */
export function withGradient(model: Model, plan: Int8Plan | null): Builder {
  const g = importGraph(model.graph, opsetOf(model));
  if (plan) applyInt8Plan(g, plan);
  const y = g.value("y");
  const dy = g.input("dy", "float32", y.shape);
  const [dx] = differentiate(g, [{ value: y, gradient: dy }], [g.value("x")]);
  g.output(y, "out");
  g.output(dx!, "dx");
  return g;
}

export async function run(g: Builder, feeds: Feeds): Promise<{ y: Float32Array; dx: Float32Array }> {
  const session = await openBuilder(g);
  const { out, dx } = await session.run(feeds);
  await session.close();
  return { y: out?.data as Float32Array, dx: dx?.data as Float32Array };
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
export const cosine = (a: Float32Array, b: Float32Array): number => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
