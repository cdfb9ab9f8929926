import {
  buildTrainingProgram,
  createRandom,
  initialParameters,
  injectAdapter,
  lora,
  type RuntimeTensor,
  streamSeed,
  type TrainEvent,
  train,
  trainableValues,
} from "@onnx-peft/core";
import { describe, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { feedsFor } from "../tasks/run-task.ts";
import { type ClassificationSample, sequenceClassification } from "../tasks/sequence-classification.ts";
import { taskGraph } from "../tasks/task-graph.ts";
import { relativeDifference } from "./testing/compare.ts";
import { type GoldenTensors, goldenPath, goldenTensor, readGolden, underPrefix } from "./testing/golden.ts";
import { numbersOf } from "./testing/numbers.ts";

const [steps, batchSize, seed] = [50, 8, 42];
const prefix = "base_model.model.";

/** Rows of all batches, in the order in which they were seen. */
function goldenSamples(tensors: GoldenTensors): ClassificationSample[] {
  return Array.from({ length: steps }, (_, step) => {
    const name = (key: string): string => `batch.${String(step).padStart(2, "0")}.${key}`;
    const [ids, mask, labels] = ["input_ids", "attention_mask", "labels"].map((key) => numbersOf(tensors, name(key)));
    const tokens = goldenTensor(tensors, name("input_ids")).dims[1]!;
    return labels!.map((label, row) => {
      const length = mask!.slice(row * tokens, (row + 1) * tokens).filter((flag) => flag === 1).length;
      return { inputIds: Int32Array.from(ids!.slice(row * tokens, row * tokens + length)), label };
    });
  }).flat();
}

/** The samples so that the trainer, which shuffles, sees them in the given order. */
function beforeShuffling<T>(samples: readonly T[]): T[] {
  const order = createRandom(streamSeed(seed, "data-order", 0)).permutation(samples.length);
  const placed = new Array<T>(samples.length);
  samples.forEach((sample, i) => {
    placed[order[i]!] = sample;
  });
  return placed;
}

const worst = (found: readonly number[], expected: readonly number[]): number =>
  expected.reduce((largest, value, i) => Math.max(largest, Math.abs(found[i]! - value) / Math.abs(value || 1)), 0);

/** What is reached: losses 2e-7, rates 1e-15, norms 4e-7, tensors 4e-7, their change since the start 4e-6. Micro-batches of at most 64 tokens: a batch of 8 rows with up to 24 tokens is cut into two to four. */
describe.each([
  ["model.safetensors", undefined],
  ["a TorchScript export", "onnx/model_torchscript.onnx"],
  ["a dynamo export", "onnx/model_dynamo.onnx"],
])("50 steps over %s", (_, onnxFile) => {
  test("losses, learning rates, gradient norms and the final adapter are those of PyTorch and peft", async () => {
    const tensors = await readGolden("training-curve.safetensors");
    const task = sequenceClassification({ labels: ["a", "b", "c"] });
    const source = { model: goldenPath("models", "bert"), ...(onnxFile ? { onnxFile } : {}) };
    const { model } = await loadTextModel(source, task.head);
    const config = { r: 4, alpha: 8, targetModules: ["query", "value"], modulesToSave: ["classifier"] };
    const adapted = injectAdapter(model, { method: lora, config, training: true });
    const loss = task.loss(taskGraph(adapted));
    const training = buildTrainingProgram(adapted.g, loss, trainableValues(adapted));
    const initial = underPrefix(tensors, `initial.${prefix}`);
    expect([...initial.keys()].sort()).toEqual([...initialParameters(adapted, 0).keys()].sort());
    const parameters = Object.fromEntries(
      adapted.parameters.map(({ name, shape }): [string, RuntimeTensor] => [
        name,
        { type: "float32", dims: shape, data: initial.get(name)! },
      ]),
    );
    const names = new Set(training.inputs.map((v) => v.name));
    const reports: Extract<TrainEvent, { type: "progress" }>[] = [];
    let runs = 0;
    const result = await train({
      training,
      parameters,
      data: {
        samples: beforeShuffling(goldenSamples(tensors)),
        lengthOf: task.lengthOf,
        collate(samples) {
          runs++;
          return feedsFor(names, { ...task.inputs(samples, 0), ...task.labels(samples, 0) });
        },
      },
      options: {
        epochs: 1,
        batchSize,
        microBatchTokens: 64,
        optimizer: { type: "adamw", learningRate: 1e-3, weightDecay: 0.01 },
        schedule: { type: "linear", warmupSteps: 5 },
        maxGradNorm: 1,
        seed,
        threads: 1,
        isolation: "inline",
      },
      onEvent(event) {
        if (event.type === "progress") reports.push(event);
      },
    });
    expect(runs).toBeGreaterThan(2 * steps);
    const expected = (name: string): number[] => numbersOf(tensors, name);
    expect(worst(result.losses, expected("losses"))).toBeLessThan(1e-6);
    expect(reports.length).toBe(steps);
    const rates = reports.map((r) => r.learningRate);
    expect(worst(rates, expected("learning_rates"))).toBeLessThan(1e-12);
    const norms = reports.map((r) => r.gradientNorm ?? Number.NaN);
    expect(worst(norms, expected("gradient_norms"))).toBeLessThan(1e-5);
    const final = underPrefix(tensors, `final.${prefix}`);
    const values = Object.entries(result.parameters).map(([name, t]) => [name, t.data as Float32Array] as const);
    expect(relativeDifference(new Map(values), final)).toBeLessThan(1e-5);
    const update = (all: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> =>
      new Map([...all].map(([name, data]) => [name, data.map((v, i) => v - initial.get(name)![i]!)]));
    expect(relativeDifference(update(new Map(values)), update(final))).toBeLessThan(2e-5);
  });
});
