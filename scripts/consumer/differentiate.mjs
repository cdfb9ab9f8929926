// What a user's project does with the packed core: a graph, its gradient, a run on ONNX Runtime, training in a process.
import assert from "node:assert/strict";
import {
  buildTrainingProgram,
  createBuilder,
  differentiate,
  encodeModel,
  meanSquaredError,
  onnxruntimeNode,
  PeftError,
  toModel,
  train,
} from "@onnx-peft/core";
import { checkGradient } from "@onnx-peft/core/testing";

const float32 = (dims, data) => ({ type: "float32", dims, data: Float32Array.from(data) });

// d/dx sum(x^2) = 2x
const g = createBuilder();
const x = g.input("x", "float32", [3]);
const [dX] = differentiate(g, [{ value: g.reduceSum(g.mul(x, x), [0], false) }], [x]);
g.output(dX, "dX");
const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish(), g.opset)));
const outputs = await session.run({ x: float32([3], [1, -2, 0.5]) });
assert.deepEqual([...outputs.dX.data], [2, -4, 1]);
await assert.rejects(session.run({}), (error) => PeftError.isInstance(error) && error.code === "FEED_NAMES");
await session.close();

// y = x·w with w = [2, -1] learnt from 64 samples
const t = createBuilder();
const [features, labels] = [t.input("features", "float32", ["batch", 2]), t.input("labels", "float32", ["batch", 1])];
const w = t.input("w", "float32", [2, 1]);
const training = buildTrainingProgram(t, meanSquaredError(t, { predictions: t.matMul(features, w), labels }), [w]);
const samples = Array.from({ length: 64 }, (_, i) => [Math.sin(i), Math.cos(3 * i)]);
const result = await train({
  training,
  parameters: { w: float32([2, 1], [0, 0]) },
  data: {
    samples,
    lengthOf: () => 1,
    collate: (batch) => ({
      features: float32([batch.length, 2], batch.flat()),
      labels: float32(
        [batch.length, 1],
        batch.map(([a, b]) => 2 * a - b),
      ),
    }),
  },
  options: { epochs: 40, batchSize: 16, optimizer: { type: "adamw", learningRate: 0.05, weightDecay: 0 } },
});
const [first, second] = result.parameters.w.data;
assert.ok(Math.abs(first - 2) < 0.01 && Math.abs(second + 1) < 0.01, `w is [${first}, ${second}]`);

await checkGradient((b, [v]) => b.tanh(v), [{ dims: [2, 3] }]);
console.log(`core ok: w = [${first.toFixed(2)}, ${second.toFixed(2)}] after ${result.steps} steps`);
