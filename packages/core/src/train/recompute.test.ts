import { join } from "node:path";
import { expect, test } from "vitest";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import type { Model } from "../onnx/ir.ts";
import { decodeModel, readModel } from "../onnx/read.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import { withRecomputation } from "./recompute.ts";
import { golden, goldenFeeds, loraTraining } from "./testing/golden-training.ts";

/** LoRA with dropout on all linear layers; cross-entropy of every row of logits. */
const trainingOf = (model: Model) => loraTraining(model, "all-linear", 0.2);

async function stepsOf(program: ReturnType<typeof trainingOf>["program"], parameters: Feeds, runs: readonly Feeds[]) {
  const optimizer = { type: "sgd", learningRate: 1 } as const;
  const engine = await createEngine(onnxruntimeNode, { training: program, parameters, optimizer, seed: 3, threads: 1 });
  try {
    const results = [];
    for (let step = 0; step < 2; step++) {
      const { loss, gradNorm } = await engine.step({ step, runs, learningRateScale: 1 });
      results.push({ loss, gradNorm });
    }
    return { results, parameters: (await engine.state()).parameters };
  } finally {
    await engine.close();
  }
}

const exports = ["bert", "gpt2", "llama"].map((name) => ({
  name,
  path: join(golden, "models", name, "onnx", "model_torchscript.onnx"),
}));

test.each(exports)("$name: losses and gradients are equal to the bit", async ({ name, path }) => {
  const { program, parameters } = trainingOf(await readModel(path));
  const lean = withRecomputation(program);
  const copies = decodeModel(lean.graph.bytes).graph.nodes.filter((node) => node.name.startsWith("recompute/"));
  expect(copies.filter((node) => /Softmax|MatMul|Gemm/.test(node.op)).length).toBeGreaterThan(5);
  const feeds = await goldenFeeds(name, program);
  const runs = [feeds, feeds];
  expect(await stepsOf(lean, parameters, runs)).toEqual(await stepsOf(program, parameters, runs));
});

test("dropout masks are the same, and micro-batches of other lengths work", async () => {
  const { program, parameters } = trainingOf(tinyModel());
  const lean = withRecomputation(program);
  expect(program.dropout.length).toBeGreaterThan(10);
  const ids = (rows: number, tokens: number): Feeds => ({
    input_ids: {
      type: "int64",
      dims: [rows, tokens],
      data: BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt(i % 11)),
    },
    labels: { type: "int64", dims: [rows], data: BigInt64Array.from({ length: rows }, (_, i) => BigInt(i % 3)) },
  });
  const runs = [ids(2, 9), ids(5, 4), ids(1, 1)];
  expect(await stepsOf(lean, parameters, runs)).toEqual(await stepsOf(program, parameters, runs));
});
