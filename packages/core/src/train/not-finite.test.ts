import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import { packGraph } from "./graph-file.ts";
import { locateNonFinite } from "./locate-non-finite.ts";
import { readMetrics } from "./metrics-log.ts";
import { buildTrainingProgram } from "./program.ts";
import { collateTiny, tinyData, tinyRun } from "./testing/tiny-task.ts";
import { train } from "./trainer.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "onnx-peft-nan-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const vector = (...data: number[]): RuntimeTensor => ({
  type: "float32",
  dims: [data.length],
  data: Float32Array.from(data),
});

/** loss = sum of log(a x) exp(x), a trained; the nodes carry module paths as an importer gives them. */
function program() {
  const g = createBuilder();
  const [x, a] = [g.input("x", "float32", ["n"]), g.input("a", "float32", [1])];
  const log = g.scoped("encoder.layer.3.log", () => g.log(g.mul(x, a)));
  const exp = g.scoped("encoder.layer.4.exp", () => g.exp(x));
  const loss = g.reduceSum(g.mul(log, exp), [0], false);
  return buildTrainingProgram(g, { sum: loss, weight: g.constant("float32", 1) }, [a]);
}

const step = async (runs: Feeds[]) => {
  const engine = await createEngine(onnxruntimeNode, {
    training: program(),
    parameters: { a: vector(1) },
    optimizer: { type: "sgd", learningRate: 1 },
    seed: 1,
    threads: 1,
  });
  try {
    return await engine.step({ step: 7, runs, learningRateScale: 1 });
  } finally {
    await engine.close();
  }
};

describe("NOT_FINITE", () => {
  test.each([
    ["NaN made by Log", [1, -1, 2], { op: "Log", node: expect.stringContaining("encoder.layer.3.log/Log") }],
    ["+Infinity made by Exp", [1, 100], { op: "Exp", node: expect.stringContaining("encoder.layer.4.exp/Exp") }],
    ["NaN that was fed", [1, Number.NaN], { op: null, node: null, value: "x" }],
  ])("names step and node: %s", async (_, x, origin) => {
    const error = await step([{ x: vector(2) }, { x: vector(...x) }]).catch((e) => e);
    expect(error).toMatchObject({ code: "NOT_FINITE", details: { step: 7, ...origin } });
    expect(error.message).toMatch(/Step 7: the loss of micro-batch 1 is (NaN|Infinity)/);
    if (origin.op) expect(error.message).toContain(`made by ${origin.op} "encoder.layer.`);
  });

  test("a finite loss with a gradient that is not; the micro-batch that did it is found", async () => {
    // The square root has an infinite slope at 0, and 0 * Infinity is NaN.
    const g = createBuilder();
    const [x, a] = [g.input("x", "float32", ["n"]), g.input("a", "float32", [1])];
    const root = g.scoped("encoder.root", () => g.sqrt(g.mul(x, a)));
    const training = buildTrainingProgram(g, { sum: g.reduceSum(root, [0], false), weight: g.constant("float32", 1) }, [
      a,
    ]);
    const engine = await createEngine(onnxruntimeNode, {
      training,
      parameters: { a: vector(1) },
      optimizer: { type: "sgd", learningRate: 1 },
      seed: 1,
      threads: 1,
    });
    const error = await engine
      .step({ step: 0, runs: [{ x: vector(1, 4) }, { x: vector(0, 4) }], learningRateScale: 1 })
      .catch((e) => e);
    expect(error).toMatchObject({
      code: "NOT_FINITE",
      details: { node: expect.stringContaining("grad/encoder.root/Sqrt") },
    });
    expect(error.message).toContain('the gradient of "a" is');
    await engine.close();
  });

  test("-Infinity of a mask is not blamed for a NaN elsewhere", async () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["n"]);
    const mask = g.scoped("mask", () => g.where(g.greater(x, 0), x, g.constant("float32", Number.NEGATIVE_INFINITY)));
    g.output(
      g.mul(
        g.softmax(mask),
        g.scoped("culprit", () => g.log(g.neg(x))),
      ),
      "y",
    );
    const graph = packGraph(toModel(g.finish(), g.opset));
    expect(await locateNonFinite(onnxruntimeNode, graph, { x: vector(1, -1) })).toMatchObject({ op: "Log" });
    const masked = createBuilder();
    const z = masked.input("x", "float32", ["n"]);
    masked.output(masked.log(z), "y");
    const alone = packGraph(toModel(masked.finish(), masked.opset));
    expect(await locateNonFinite(onnxruntimeNode, alone, { x: vector(0) })).toMatchObject({ op: "Log" });
    expect(await locateNonFinite(onnxruntimeNode, alone, { x: vector(1) })).toBeNull();
  });

  test.each(["inline", "process"] as const)(
    "%s: a learning rate that is far too large; no checkpoint after the bad step",
    async (isolation) => {
      const folder = join(root, isolation);
      const run = tinyRun({
        folder,
        options: { isolation, epochs: 10, saveSteps: 1, optimizer: { type: "sgd", learningRate: 1e19 } },
      });
      const error = await train(run).catch((e) => e);
      expect(error).toMatchObject({ code: "NOT_FINITE", details: { step: expect.any(Number) } });
      const bad: number = error.details.step;
      expect(error.message).toContain(`Step ${bad}: `);
      const state = JSON.parse(await readFile(join(folder, "checkpoint", "trainer_state.json"), "utf8"));
      expect(state.state.step).toBeLessThanOrEqual(bad);
      const { tensors } = await readSafetensors(join(folder, "checkpoint", "parameters.safetensors"));
      for (const tensor of tensors.values()) expect(toFloat32Array(tensor).every(Number.isFinite)).toBe(true);
      // What was measured up to then is on disk.
      expect((await readMetrics(join(folder, "metrics.jsonl"))).length).toBeGreaterThanOrEqual(state.state.step);
    },
  );

  test("an update that overflows in the last step is neither saved nor returned", async () => {
    const folder = join(root, "last");
    const run = tinyRun({
      folder,
      data: tinyData(8),
      options: { epochs: 1, optimizer: { type: "sgd", learningRate: 1e40 } },
    });
    await expect(train(run)).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringContaining("Step 0: its update made"),
    });
    await expect(readFile(join(folder, "checkpoint", "trainer_state.json"))).rejects.toThrow("ENOENT");
    await expect(train({ ...run, folder: undefined as never })).rejects.toMatchObject({ code: "NOT_FINITE" });
  });

  test("data that turns bad in the middle of a run", async () => {
    const folder = join(root, "data");
    let calls = 0;
    const collate = (samples: Parameters<typeof collateTiny>[0]): Feeds => {
      const feeds = collateTiny(samples);
      if (++calls === 6) feeds["mask"]!.data[0] = Number.NaN;
      return feeds;
    };
    const run = tinyRun({
      folder,
      data: { ...tinyData(32), collate, wholeBatch: true },
      options: { epochs: 3, saveSteps: 2 } as never,
    });
    await expect(train(run)).rejects.toMatchObject({
      code: "NOT_FINITE",
      details: { step: 5, value: "mask", node: null },
    });
    const state = JSON.parse(await readFile(join(folder, "checkpoint", "trainer_state.json"), "utf8"));
    expect(state.state.step).toBe(4);
  });
});
