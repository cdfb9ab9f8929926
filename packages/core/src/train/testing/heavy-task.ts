import { createBuilder } from "../../graph/builder.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { createRandom } from "../../random/random.ts";
import { buildTrainingProgram } from "../program.ts";
import type { TrainingRun } from "../trainer.ts";

const [ROWS, WIDTH, WIDE] = [512, 1024, 4096];

/**
 * Four samples, one a step. A step is some 20 GFLOP: 100 ms and more on any one core. Weights of 4 MB in the graph and
 * 16 MB of parameters, so that start, checkpoints and the end move as much as a real run does.
 */
export function heavyRun(changes: Partial<TrainingRun<number>>): TrainingRun<number> {
  const random = createRandom(1);
  const g = createBuilder();
  const x = g.input("x", "float32", ["rows", WIDTH]);
  const frozen = g.initializer(
    "frozen",
    tensorFrom("float32", [WIDTH, WIDTH], random.fillNormal(new Float32Array(WIDTH * WIDTH), 0, 0.03)),
  );
  const wide = g.input("wide", "float32", [WIDTH, WIDE]);
  const scale = g.input("scale", "float32", [WIDTH]);
  let y = g.mul(x, scale);
  for (let i = 0; i < 3; i++) y = g.matMul(y, frozen);
  y = g.matMul(y, wide); // [rows, wide]
  const loss = { sum: g.reduceSum(g.mul(y, y), [0, 1], false), weight: g.constant("float32", 1) };
  return {
    training: buildTrainingProgram(g, loss, [scale, wide]),
    parameters: {
      scale: { type: "float32", dims: [WIDTH], data: new Float32Array(WIDTH).fill(1) },
      wide: { type: "float32", dims: [WIDTH, WIDE], data: random.fillNormal(new Float32Array(WIDTH * WIDE), 0, 0.01) },
    },
    data: {
      samples: [0, 1, 2, 3],
      lengthOf: () => 1,
      collate: () => ({ x: { type: "float32", dims: [ROWS, WIDTH], data: new Float32Array(ROWS * WIDTH).fill(0.01) } }),
    },
    options: { epochs: 1, batchSize: 1, threads: 1, optimizer: { type: "adamw", learningRate: 1e-4 } },
    ...changes,
  };
}
