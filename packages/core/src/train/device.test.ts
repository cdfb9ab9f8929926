import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { OpenOptions, Runtime } from "../runtime/runtime.ts";
import { memoryLimit } from "./check-memory.ts";
import { createEngine } from "./engine.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { type TrainOptionsInput, trainOptions } from "./options.ts";
import { runSizes } from "./run-sizes.ts";
import { collateTiny, tinyEvaluation, tinyParameters, tinyProgram, tinyRun, tinySamples } from "./testing/tiny-task.ts";
import { type TrainEvent, train } from "./trainer.ts";

const optimizer = { type: "adamw", learningRate: 0.02 } as const;

/** Writes down what it is asked to open, and opens it on the CPU. */
function recorder() {
  const asked: OpenOptions[] = [];
  const runtime: Runtime = {
    name: "recorder",
    async open(model, options = {}) {
      asked.push(options);
      return onnxruntimeNode.open(model, { ...options, providers: ["cpu"], threads: 1 });
    },
  };
  return { asked, runtime };
}

test("training and evaluation are opened on the device, and steps say where nodes ran", async () => {
  const { asked, runtime } = recorder();
  const engine = await createEngine(runtime, {
    ...{ training: tinyProgram(), evaluation: tinyEvaluation(), parameters: tinyParameters(), optimizer, seed: 1 },
    device: "cuda",
  });
  const runs = [collateTiny(tinySamples(4))];
  const { placement } = await engine.step({ step: 0, runs, learningRateScale: 1 });
  await engine.close();
  expect(asked.map(({ purpose, providers }) => ({ purpose, providers }))).toEqual([
    { purpose: "training", providers: ["cuda", "cpu"] },
    { purpose: "evaluation", providers: ["cuda", "cpu"] },
  ]);
  expect(placement).toMatchObject({ deviceNodes: 0, copies: 0 });
  expect(placement?.cpuNodes).toBeGreaterThan(20);
});

test("on the CPU nothing is profiled", async () => {
  const { asked, runtime } = recorder();
  const setup = { training: tinyProgram(), parameters: tinyParameters(), optimizer, seed: 1 };
  const engine = await createEngine(runtime, setup);
  const result = await engine.step({ step: 0, runs: [collateTiny(tinySamples(4))], learningRateScale: 1 });
  await engine.close();
  expect(asked).toMatchObject([{ recordPlacement: false }]);
  expect(result).not.toHaveProperty("placement");
});

test("products in 8 bits are refused on a GPU before anything is opened", async () => {
  const { asked, runtime } = recorder();
  const training = { ...tinyProgram(), isInt8: true } as const;
  const setup = { training, parameters: tinyParameters(), optimizer, seed: 1 };
  await expect(createEngine(runtime, { ...setup, device: "webgpu" })).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: expect.stringMatching(/on the device "webgpu", received "int8".*CPU only/),
  });
  expect(asked).toEqual([]);
  await (await createEngine(runtime, setup)).close();
});

test("a device that does not exist is refused by name", async () => {
  const options = { device: "gpu", optimizer } as never;
  await expect(train(tinyRun({ options }))).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});

describe.skipIf(existsSync("/dev/nvidiactl"))("without the device", () => {
  test.each(["inline", "process"] as const)("nothing is trained on the CPU in its place (%s)", async (isolation) => {
    const events: TrainEvent[] = [];
    const run = tinyRun({
      options: { device: "cuda", isolation, optimizer },
      onEvent: (event) => void events.push(event),
    });
    await expect(train(run)).rejects.toMatchObject({ code: "DEVICE_UNAVAILABLE", details: { provider: "cuda" } });
    expect(events).toEqual([]);
  });
});

test("a checkpoint of one device can be continued on another", async () => {
  const run = tinyRun();
  const { microBatchTokens: _given, ...options } = run.options as TrainOptionsInput;
  const on = (device: string, more = {}) => fingerprintOf(run, trainOptions.parse({ ...options, ...more, device }));
  expect(await on("webgpu")).toEqual(await on("cpu"));
  expect(await on("webgpu", { microBatchTokens: 64 })).not.toEqual(await on("cpu"));
});

test("runs are larger on a GPU where nothing is said", () => {
  const sizes = (options: object) => runSizes(trainOptions.parse({ optimizer, ...options }));
  expect(sizes({})).toEqual({ maxTokens: 512, runCost: 48 });
  expect(sizes({ device: "cuda" })).toEqual({ maxTokens: 16384, runCost: 4096 });
  expect(sizes({ device: "webgpu", microBatchTokens: 1000 })).toEqual({ maxTokens: 1000, runCost: 4096 });
});

test("free memory of the machine says nothing about that of a GPU", () => {
  const limit = (options: object) => memoryLimit(trainOptions.parse({ optimizer, ...options }));
  expect(limit({})).toBeGreaterThan(0);
  expect(limit({ device: "cuda" })).toBeNull();
  expect(limit({ device: "cuda", availableMemory: 5e9 })).toBe(5e9);
  expect(limit({ availableMemory: "unlimited" })).toBeNull();
});
