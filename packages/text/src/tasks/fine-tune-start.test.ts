import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoraConfig, TrainEvent } from "@onnx-peft/core";
import { afterAll, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { fineTune } from "./fine-tune.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { orders, wordOrderSamples, writeSmallBert } from "./testing/word-order.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-text-start-"));
const source = { model: writeSmallBert(folder, { hidden_size: 32, intermediate_size: 48, initializer_range: 0.2 }) };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Tuning {
  readonly folder?: string;
  readonly isolation?: "process" | "inline";
  readonly onEvent?: (event: TrainEvent) => void;
  readonly signal?: AbortSignal;
}

async function tune(own: Partial<LoraConfig>, { isolation = "inline", onEvent, ...more }: Tuning = {}) {
  const task = sequenceClassification({ labels: orders });
  const model = await loadTextModel(source, task.head);
  const events: TrainEvent[] = [];
  const tuned = await fineTune({
    ...{ model, task, train: wordOrderSamples, ...more },
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
