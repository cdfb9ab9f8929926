import { expect } from "vitest";
import { trainableValues } from "../../../adapters/inject.ts";
import { differentiate } from "../../../autodiff/differentiate.ts";
import type { Value } from "../../../onnx/ir.ts";
import type { RuntimeTensor } from "../../../runtime/runtime.ts";
import { testRandom } from "../../../testing/check-gradient.ts";
import { openBuilder } from "../../../testing/run-graph.ts";
import { feedsOf, type Trial, type Values } from "./trial.ts";

/**
 * The gradients of all trained tensors, and of nothing else, against central differences of a random linear loss: along one direction
 * for all tensors together, and one for each.
 */
export async function checkGradients({ feeds, tried, inject, moved }: Trial): Promise<void> {
  const adapted = inject();
  const { g } = adapted;
  const logits = adapted.outputs.get("logits") as Value;
  const weights = g.input("weights", "float32", logits.shape);
  const loss = g.reduceSum(g.mul(logits, weights), [0, 1], false);
  const wanted = trainableValues(adapted);
  const gradients = differentiate(g, [{ value: loss }], wanted);
  g.output(loss, "loss");
  gradients.forEach((d, i) => {
    g.output(d, `d:${wanted[i]?.name}`);
  });
  const session = await openBuilder(g);
  expect([...session.outputNames].sort()).toEqual(["loss", ...wanted.map((p) => `d:${p.name}`)].sort());

  const random = testRandom(9);
  const values = moved(9);
  const draw = () => random() * 2 - 1;
  const fixed = {
    ...feeds,
    weights: { type: "float32", dims: [2, 3], data: Float32Array.from({ length: 6 }, draw) },
  } as const;
  const at = (v: Values) => {
    const all: Record<string, RuntimeTensor> = { ...fixed, ...feedsOf(adapted, v) };
    return session.run(Object.fromEntries(session.inputNames.map((name) => [name, all[name] as RuntimeTensor])));
  };
  const analytic = await at(values);
  const trainable = adapted.parameters.filter(
    (p) => p.trainable && !(tried.stopsGradients && /lora_(embedding_)?[AB]/.test(p.name)),
  );
  for (const parameters of [trainable, ...trainable.map((p) => [p])]) {
    const directions = new Map(parameters.map(({ name }) => [name, values.get(name)?.map(draw)]));
    const shifted = (h: number): Values =>
      new Map([...values].map(([n, v]) => [n, v.map((x, i) => x + h * (directions.get(n)?.[i] ?? 0))]));
    let expected = 0;
    let scale = 0.02;
    for (const [n, d] of directions) {
      const dX = analytic[`d:${n}`]?.data as Float32Array;
      dX.forEach((x, i) => {
        expected += x * (d?.[i] ?? 0);
        scale += Math.abs(x * (d?.[i] ?? 0));
      });
    }
    const lossAt = async (h: number): Promise<number> => Number((await at(shifted(h)))["loss"]?.data[0]);
    const central = async (h: number): Promise<number> => ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    const found = (4 * (await central(0.005)) - (await central(0.01))) / 3;
    expect(Math.abs(found - expected), parameters.map((p) => p.name).join()).toBeLessThan(4e-3 * scale + 5e-4);
  }
  await session.close();
}
