import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRandom, encodeSafetensors, type LoraConfig, type TrainEvent } from "@onnx-peft/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { initialBertWeights } from "../models/initial-weights.ts";
import { loadTextModel } from "../models/load-text-model.ts";
import { fineTune } from "./fine-tune.ts";
import { sequenceClassification } from "./sequence-classification.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-text-start-"));
const config = {
  ...{ model_type: "bert", vocab_size: 60, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ intermediate_size: 48, max_position_embeddings: 16, type_vocab_size: 2, initializer_range: 0.2 },
};
beforeAll(() => {
  mkdirSync(join(folder, "model"));
  writeFileSync(join(folder, "model", "config.json"), JSON.stringify(config));
  const weights = initialBertWeights(config, createRandom(4), 2);
  writeFileSync(join(folder, "model", "model.safetensors"), encodeSafetensors(weights, { format: "pt" }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Which of two words comes first. */
const samples = Array.from({ length: 24 }, (_, i) => {
  const words = i % 2 === 0 ? [7, 9] : [9, 7];
  const filler = Array.from({ length: i % 5 }, (__, k) => 20 + ((i * 7 + k * 3) % 30));
  return { inputIds: Int32Array.of(1, ...words, ...filler, 2), label: i % 2 };
});

interface Tuning {
  readonly folder?: string;
  readonly isolation?: "process" | "inline";
  readonly onEvent?: (event: TrainEvent) => void;
  readonly signal?: AbortSignal;
}

async function tune(own: Partial<LoraConfig>, { isolation = "inline", onEvent, ...more }: Tuning = {}) {
  const task = sequenceClassification({ labels: ["ab", "ba"] });
  const model = await loadTextModel({ model: join(folder, "model") }, task.head);
  const events: TrainEvent[] = [];
  const tuned = await fineTune({
    ...{ model, task, train: samples, ...more },
    adapter: { r: 3, alpha: 6, targetModules: "all-linear", ...own },
    startData: { samples: 20, batchTokens: 64 },
    options: {
      ...{ epochs: 2, batchSize: 8, isolation, threads: 1, seed: 3, saveSteps: 2 },
      optimizer: { type: "adamw", learningRate: 0.003 },
    },
    onEvent(event) {
      events.push(event);
      onEvent?.(event);
    },
  });
  await tuned.close();
  return { tuned, events };
}
const evaConfig = { rho: 2, tau: 0.9 } as LoraConfig["evaConfig"];

/** Loss of the first step without a start from data. */
let plain: number | undefined;

test.each([
  { initLoraWeights: "eva", evaConfig },
  { initLoraWeights: "lora_ga" },
  { initLoraWeights: "corda" },
] as const)(
  "$initLoraWeights: the start is made before training, and the loss begins where the model is",
  async (own) => {
    const { tuned, events } = await tune(own as Partial<LoraConfig>);
    plain ??= (await tune({})).tuned.training.losses[0];
    expect(events[0]).toMatchObject({ type: "calibration", step: 0, batches: 1 });
    expect(tuned.training.losses[0]).toBeCloseTo(plain ?? 0, 4);
    expect(tuned.training.losses[1]).not.toBeCloseTo(tuned.training.losses[0] ?? 0, 4);
  },
);

test("an interrupted run goes on with the start that its folder keeps, bit for bit", async () => {
  const own = { initLoraWeights: "eva", evaConfig } as const;
  const whole = await tune(own);
  const runFolder = join(folder, "run");
  const controller = new AbortController();
  const first = await tune(own, {
    ...{ folder: runFolder, signal: controller.signal, isolation: "process" },
    onEvent(event) {
      if (event.type === "checkpoint") controller.abort();
    },
  });
  expect(first.tuned.training.reason).toBe("cancelled");
  expect(readdirSync(runFolder)).toContain("start");
  const { tuned, events } = await tune(own, { folder: runFolder, isolation: "process" });
  expect(events.some(({ type }) => type === "calibration")).toBe(false);
  expect(tuned.training.losses).toEqual(whole.tuned.training.losses);
  expect(tuned.adapter).toEqual(whole.tuned.adapter);
});
