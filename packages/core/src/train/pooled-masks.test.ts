import { expect, test } from "vitest";
import { decodeModel } from "../onnx/read.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { createEngine } from "./engine.ts";
import { withPooledMasks } from "./pooled-masks.ts";
import { collateTiny, tinyParameters, tinyProgram, tinySamples } from "./testing/tiny-task.ts";

/** Two steps of two micro-batches, with dropout of two probabilities. */
async function stepsOf(training: ReturnType<typeof tinyProgram>) {
  const optimizer = { type: "adamw", learningRate: 0.02 } as const;
  const setup = { training, parameters: tinyParameters(), optimizer, seed: 3, threads: 1 };
  const engine = await createEngine(onnxruntimeNode, setup);
  const runs = [collateTiny(tinySamples(4)), collateTiny(tinySamples(3, 5))];
  const losses = [];
  for (let step = 0; step < 2; step++) losses.push((await engine.step({ step, runs, learningRateScale: 1 })).loss);
  const { parameters } = await engine.state();
  await engine.close();
  return { losses, parameters };
}

test("masks cut inside the graph are those that are fed, to the bit", async () => {
  const program = tinyProgram(0.4);
  const pooled = withPooledMasks(program);
  const names = decodeModel(pooled.graph.bytes).graph.inputs.map(({ name }) => name);
  expect(names).toContain("dropout.pool.0.4");
  expect(names).toContain("dropout.pool.0.2");
  expect(names).not.toContain("dropout.mask.0");
  expect(await stepsOf(pooled)).toEqual(await stepsOf(program));
});

test("a program without dropout stays what it is", () => {
  const inputsOf = ({ graph }: ReturnType<typeof tinyProgram>) => decodeModel(graph.bytes).graph.inputs;
  expect(inputsOf(withPooledMasks(tinyProgram()))).toEqual(inputsOf(tinyProgram()));
});
