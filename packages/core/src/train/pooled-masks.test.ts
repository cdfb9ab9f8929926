import { expect, test } from "vitest";
import { decodeModel } from "../onnx/read.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { createEngine } from "./engine.ts";
import { packGraph } from "./graph-file.ts";
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

const ofGraph = (program: ReturnType<typeof tinyProgram>) => decodeModel(program.graph.bytes).graph;
const inputNames = (program: ReturnType<typeof tinyProgram>) => ofGraph(program).inputs.map(({ name }) => name);

test("masks cut inside the graph are those that are fed, to the bit", async () => {
  const program = tinyProgram(0.4);
  const pooled = withPooledMasks(program, "webgpu");
  expect(inputNames(pooled)).toContain("dropout.pool.0.4");
  expect(inputNames(pooled)).toContain("dropout.pool.0.2");
  expect(inputNames(pooled)).not.toContain("dropout.mask.0");
  expect(await stepsOf(pooled)).toEqual(await stepsOf(program));
});

test("so are masks from bytes, of which no float32 copy is kept", async () => {
  const program = tinyProgram(0.4);
  const pooled = withPooledMasks(program, "cuda");
  expect(inputNames(pooled)).toContain("dropout.kept.0.4");
  expect(inputNames(pooled).filter((name) => name.startsWith("dropout.pool"))).toEqual([]);
  const ops = ofGraph(pooled).nodes.map(({ op }) => op);
  // Forward and backward of two sites.
  expect(ops.filter((op) => op === "Where").length).toBeGreaterThanOrEqual(4);
  expect(await stepsOf(pooled)).toEqual(await stepsOf(program));
});

test("a mask that more than products read is made from bytes as a whole", async () => {
  const program = tinyProgram(0.4);
  const model = decodeModel(program.graph.bytes);
  const nodes = model.graph.nodes.map((node) =>
    node.op === "Reshape" && node.inputs[0] === "dropout.mask.0"
      ? [{ ...node, inputs: ["copied", ...node.inputs.slice(1)] }]
      : [node],
  );
  const copy = { name: "copy", op: "Identity", domain: "", attributes: {}, metadata: {} };
  const identity = { ...copy, inputs: ["dropout.mask.0"], outputs: ["copied"] };
  const graph = packGraph({ ...model, graph: { ...model.graph, nodes: [identity, ...nodes.flat()] } });
  const other = { ...program, graph };
  const ops = ofGraph(withPooledMasks(other, "cuda")).nodes.map(({ name }) => name);
  expect(ops).toContain("dropout.mask.0/Cast");
  expect(await stepsOf(withPooledMasks(other, "cuda"))).toEqual(await stepsOf(program));
});

test.each(["cuda", "webgpu"] as const)("a program without dropout stays what it is (%s)", (device) => {
  expect(ofGraph(withPooledMasks(tinyProgram(), device))).toEqual(ofGraph(tinyProgram()));
});
