import { afterEach, describe, expect, test, vi } from "vitest";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import {
  collateTiny,
  tinyData,
  tinyEvaluation,
  tinyLoss,
  tinyParameters,
  tinyProgram,
  tinyRun,
  tinySamples,
} from "./testing/tiny-task.ts";
import { type TrainEvent, train } from "./trainer.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const flat = (parameters: Readonly<Record<string, RuntimeTensor>>): number[] =>
  Object.keys(tinyParameters()).flatMap((name) => Array.from(parameters[name]!.data as Float32Array));

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** |a - b| / |a|, of whole vectors. */
function relativeDifference(a: readonly number[], b: readonly number[]): number {
  expect(b).toHaveLength(a.length);
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...a);
}

describe("train", () => {
  test("the loss falls, and two runs are equal to the bit", async () => {
    const first = await train(tinyRun({ dropout: 0.1, options: { epochs: 10 } as never }));
    const second = await train(tinyRun({ dropout: 0.1, options: { epochs: 10 } as never }));
    expect(mean(first.losses.slice(-4))).toBeLessThan(0.7 * mean(first.losses.slice(0, 4)));
    expect(second.losses).toEqual(first.losses);
    expect(flat(second.parameters)).toEqual(flat(first.parameters));
    expect(first).toMatchObject({ reason: "finished", steps: 40, best: null });
  });

  test("another seed gives another order and other masks", async () => {
    const first = await train(tinyRun({ options: { epochs: 1 } as never }));
    const second = await train(tinyRun({ options: { epochs: 1, seed: 43 } as never }));
    expect(second.losses).not.toEqual(first.losses);
  });

  test.each([16, 64, 10_000])("micro-batches of %i tokens: the step of the whole batch", async (microBatchTokens) => {
    const open = vi.spyOn(onnxruntimeNode, "open");
    // Plain SGD: the update is the gradient, so every digit of it is compared.
    const optimizer = { type: "sgd" as const, learningRate: 1 };
    const data = tinyData(24);
    const whole = await train(
      tinyRun({ data: { ...data, wholeBatch: true }, options: { epochs: 1, batchSize: 24, optimizer } }),
    );
    open.mockClear();
    let runs = 0;
    const collate = (samples: Parameters<typeof collateTiny>[0]) => {
      runs++;
      return collateTiny(samples);
    };
    const cut = await train(
      tinyRun({ data: { ...data, collate }, options: { epochs: 1, batchSize: 24, microBatchTokens, optimizer } }),
    );
    const start = flat(tinyParameters());
    const [wholeStep, cutStep] = [whole, cut].map(({ parameters }) => flat(parameters).map((v, i) => v - start[i]!));
    expect(Math.hypot(...wholeStep!)).toBeGreaterThan(0.1);
    expect(relativeDifference(wholeStep!, cutStep!)).toBeLessThan(1e-6);
    expect(relativeDifference(whole.losses as number[], cut.losses as number[])).toBeLessThan(1e-6);
    expect(open).toHaveBeenCalledTimes(1);
    expect(runs).toBe({ 16: 14, 64: 4, 10000: 2 }[microBatchTokens]);
  });

  test("padding share is that of the runs", async () => {
    const lengths = [12, 9, 4, 4, 3, 1];
    const samples = lengths.map((length) => ({ ids: Array(length).fill(7), labels: Array(length).fill(1) }));
    const result = await train(
      tinyRun({
        data: { ...tinyData(1), samples },
        options: { epochs: 2, batchSize: 6, microBatchTokens: 24 } as never,
      }),
    );
    // [12 12] [4 4 4 4]: 40 padded tokens, 33 real ones.
    expect(result.paddingShare).toBeCloseTo(1 - 33 / 40, 12);
  });

  test("a loss that couples samples is never cut", async () => {
    const sizes: number[] = [];
    const collate = (samples: Parameters<typeof collateTiny>[0]) => {
      sizes.push(samples.length);
      return collateTiny(samples);
    };
    const training = { ...tinyProgram(), couplesSamples: true };
    await train(
      tinyRun({ training, data: { ...tinyData(16), collate }, options: { epochs: 1, microBatchTokens: 1 } as never }),
    );
    expect(sizes).toEqual([8, 8]);
  });

  test("fractions of epochs, a last batch that is not full, events in order", async () => {
    const events: TrainEvent[] = [];
    const result = await train(
      tinyRun({
        data: tinyData(30),
        options: { epochs: 1.5, evalSteps: 4 } as never,
        evaluation: tinyEvaluation(),
        evaluate: tinyLoss,
        onEvent: (event) => events.push(event),
      }),
    );
    expect(result.steps).toBe(6);
    expect(events.map((event) => `${event.step} ${event.type}`)).toEqual([
      "1 progress",
      "2 progress",
      "3 progress",
      "4 progress",
      "4 evaluation",
      "5 progress",
      "6 progress",
      "6 evaluation",
    ]);
    const progress = events.filter((event) => event.type === "progress");
    expect(progress.at(-1)).toMatchObject({ epoch: 1.5, totalSteps: 6, remainingMs: 0 });
    expect(progress[0]!.tokensPerSecond).toBeGreaterThan(0);
    expect(result.peakRssBytes).toBeGreaterThan(30e6);
    // 0.07 * 100 steps is 7.000000000000001.
    const small = await train(tinyRun({ data: tinyData(100), options: { epochs: 0.07, batchSize: 1 } as never }));
    expect(small.steps).toBe(7);
  });

  test("the best parameters are returned, each graph is opened once", async () => {
    const open = vi.spyOn(onnxruntimeNode, "open");
    const scores = [5, 3, 4, 3, 2.5, 7];
    const metrics = [...scores];
    const at: number[] = [];
    const result = await train(
      tinyRun({
        evaluation: tinyEvaluation(),
        async evaluate(run) {
          at.push((await tinyLoss(run))["loss"]!);
          return { score: metrics.shift()!, share: Number.NaN };
        },
        options: { epochs: 6, metricForBest: "score" } as never,
      }),
    );
    expect(open).toHaveBeenCalledTimes(2);
    expect(result.best).toEqual({ step: 20, metrics: { score: 2.5, share: Number.NaN } });
    expect(result.evaluations.map(({ metrics }) => metrics["score"])).toEqual(scores);
    expect(result.reason).toBe("finished");
    // What was returned is what the fifth evaluation saw, and not the last parameters.
    const engine = await createEngine(onnxruntimeNode, {
      evaluation: tinyEvaluation(),
      parameters: result.parameters,
      seed: 1,
      threads: 1,
    });
    expect((await tinyLoss(engine.evaluate))["loss"]).toBe(at[4]);
    expect(at[5]).not.toBe(at[4]);
    await engine.close();
  });

  test("early stopping counts evaluations without improvement, larger may be better", async () => {
    const scores = [1, 2, 2, 1, 9];
    const result = await train(
      tinyRun({
        evaluation: tinyEvaluation(),
        evaluate: async () => ({ accuracy: scores.shift()! }),
        options: { epochs: 9, metricForBest: "accuracy", greaterIsBetter: true, earlyStoppingPatience: 2 } as never,
      }),
    );
    expect(result).toMatchObject({ reason: "early-stopping", steps: 16, best: { step: 8 } });
  });

  test("clipping bounds the update, not the reported norm", async () => {
    const optimizer = { type: "sgd" as const, learningRate: 1 };
    const norms: number[] = [];
    const result = await train(
      tinyRun({
        options: { epochs: 0.25, maxGradNorm: 0.01, optimizer },
        onEvent: (event) => event.type === "progress" && norms.push(event.gradientNorm!),
      }),
    );
    const start = flat(tinyParameters());
    expect(Math.hypot(...flat(result.parameters).map((v, i) => v - start[i]!))).toBeCloseTo(0.01, 5);
    expect(norms[0]).toBeGreaterThan(0.1);
  });

  test.each([
    [
      "METRIC_MISSING",
      { evaluation: tinyEvaluation(), evaluate: tinyLoss, options: { metricForBest: "accuracy" } as never },
    ],
    ["CONFIG_INVALID", { options: { earlyStoppingPatience: 2 } as never }],
    ["CONFIG_INVALID", { evaluate: tinyLoss }],
    ["CONFIG_INVALID", { options: { learningRate: 2 } as never }],
    ["NO_DATA", { data: { ...tinyData(1), samples: [] } }],
    ["EMPTY_BATCH", { data: { ...tinyData(8), collate: (s: never) => ({ ...collateTiny(s), mask: zeros(s) }) } }],
  ])("%s", async (code, changes) => {
    await expect(train(tinyRun(changes as never))).rejects.toMatchObject({ code });
  });

  test("what a collator throws ends the run and nothing else", async () => {
    const samples = tinySamples(32);
    let calls = 0;
    const collate = (items: Parameters<typeof collateTiny>[0]) => {
      if (++calls === 3) throw new Error("bad row");
      return collateTiny(items);
    };
    await expect(
      train(
        tinyRun({
          data: { ...tinyData(1), samples, collate, wholeBatch: true },
          options: { isolation: "process" } as never,
        }),
      ),
    ).rejects.toThrow("bad row");
  });
});

function zeros(samples: Parameters<typeof collateTiny>[0]): RuntimeTensor {
  const { mask } = collateTiny(samples);
  return { ...mask!, data: new Float32Array(mask!.data.length) };
}
