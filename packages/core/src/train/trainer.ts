import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { learningRateAt } from "../optim/schedule.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { batchCount } from "./batch-order.ts";
import { type Batch, createBatches } from "./batches.ts";
import { checkMemory, memoryLimit } from "./check-memory.ts";
import { earlyStoppingNext } from "./early-stopping.ts";
import { createEngine } from "./engine.ts";
import { type FileEngine, withFiles } from "./engine-files.ts";
import { createEngineProcess } from "./engine-process.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { evaluationRecord, type History, stepRecord } from "./history.ts";
import type { MetricsLog } from "./metrics-log.ts";
import { type TrainOptions, trainOptions } from "./options.ts";
import { openPrefixCache } from "./prefix/prefix-cache.ts";
import { createProgress } from "./progress.ts";
import { openRunFolder, type RunFolder, startState, type TrainerState } from "./run-folder.ts";
import { trainedProgram } from "./trained-program.ts";
import type { TrainingResult, TrainingRun } from "./training-run.ts";

export type {
  DeviceEvent,
  Int8Event,
  Metrics,
  PrefixEvent,
  TrainEvent,
  TrainingData,
  TrainingResult,
  TrainingRun,
} from "./training-run.ts";

/**
 * Trains: batch, step, report, evaluate, save. With a `folder` a killed run is continued by calling this again: data
 * order and dropout are functions of (seed, step), and the optimiser's state is saved, so the result is bit-equal to that
 * of a run without interruption (on the same machine, with the same number of threads). Nothing is saved after a step
 * that went wrong.
 *
 * @throws PeftError DEVICE_UNAVAILABLE, NO_PREFIX (with `prefixCache`), MEMORY_EXCEEDED (naming settings that would fit), NOT_FINITE (naming step and node), ENGINE_CRASHED, CONFIG_INVALID, NO_DATA, METRIC_MISSING,
 *   EMPTY_BATCH; RESUME_MISMATCH, CHECKPOINT_INVALID and METRICS_LOG_INVALID when the folder cannot be continued
 * @example
 * const result = await train({ training, parameters, data, options: { optimizer: { type: "adamw", learningRate: 1e-3 } } });
 */
export async function train<Sample>(run: TrainingRun<Sample>): Promise<TrainingResult> {
  return trainOver(run, {
    openFolder: async (options) =>
      run.folder === undefined ? null : openRunFolder(run.folder, await fingerprintOf(run, options)),
    openEngine,
  });
}

/** Where a run's steps are made and its checkpoints go. */
export interface TrainingGround<Sample> {
  openFolder(options: TrainOptions): Promise<RunFolder | null>;
  openEngine(run: TrainingRun<Sample>, options: TrainOptions, totalSteps: number): Promise<FileEngine>;
}

/** The loop of {@link train}, over an engine and a folder that may be shared with other runs. */
export async function trainOver<Sample>(
  run: TrainingRun<Sample>,
  ground: TrainingGround<Sample>,
): Promise<TrainingResult> {
  const started = performance.now();
  const options = parseConfig(trainOptions, run.options, "training options");
  checkRun(run, options);
  await checkMemory(run, options, memoryLimit(options));
  const { stepsPerEpoch, totalSteps } = stepCounts(run.data.samples.length, options);
  const folder = await ground.openFolder(options);
  const resumed = folder ? await folder.load() : null;
  const state: TrainerState = resumed?.state ?? startState();
  const history: History = resumed?.history ?? { losses: [], evaluations: [] };
  await using cache = options.prefixCache === "off" ? null : await openPrefixCache(run, options);
  const engine = await ground.openEngine(cache ? { ...run, training: cache.training } : run, options, totalSteps);
  let log: MetricsLog | null = null;
  try {
    if (folder && resumed) await folder.restore(engine);
    log = folder ? await folder.openLog(state.step) : null;
    const save = async (): Promise<void> => {
      if (!folder || !log) return;
      await folder.save(state, engine, log);
      run.onEvent?.({ type: "checkpoint", step: state.step });
    };
    const memory = { rssBytes: 0, peakRssBytes: 0 };
    const progress = createProgress({ totalSteps, startStep: state.step, residentBytes: () => memory.rssBytes });
    const batchOf = createBatches(run, options, stepsPerEpoch);
    const prepare = async (step: number): Promise<Batch | null> => {
      if (step >= totalSteps) return null;
      return cache ? cache.attach(batchOf(step)) : batchOf(step);
    };
    const patience = options.earlyStoppingPatience ?? Number.POSITIVE_INFINITY;
    const isLate = (): boolean => state.early.withoutImprovement >= patience;

    let batch = isLate() ? null : await prepare(state.step);
    let cancelled = false;
    const firstStep = state.step;
    while (batch) {
      if (run.signal?.aborted) {
        cancelled = true;
        await save();
        break;
      }
      const scale = options.schedule ? learningRateAt(state.step, totalSteps, options.schedule) : 1;
      const [result, next] = await Promise.all([
        engine.step({
          step: state.step,
          runs: batch.runs,
          learningRateScale: scale,
          ...(options.maxGradNorm === undefined ? {} : { maxGradNorm: options.maxGradNorm }),
        }),
        prepare(state.step + 1), // while the engine works
      ]);
      state.step++;
      state.realTokens += batch.realTokens;
      state.paddedTokens += batch.paddedTokens;
      Object.assign(memory, { rssBytes: result.rssBytes, peakRssBytes: result.peakRssBytes });
      const report = {
        step: state.step,
        epoch: state.step / stepsPerEpoch,
        loss: result.loss,
        learningRate: scale * options.optimizer.learningRate,
        gradientNorm: result.gradNorm,
      };
      history.losses.push(result.loss);
      log?.append(stepRecord(report));
      if (result.placement && state.step === firstStep + 1) {
        run.onEvent?.({ type: "device", step: state.step, device: options.device, ...result.placement });
      }
      run.onEvent?.(progress({ ...report, samples: batch.samples, tokens: batch.realTokens }));

      const isDue = (every = stepsPerEpoch): boolean => state.step === totalSteps || state.step % every === 0;
      if (run.evaluate && isDue(options.evalSteps)) {
        await evaluateNow(run, options, { engine, state, history, log, epoch: report.epoch });
      }
      if (isLate() || isDue(options.saveSteps ?? options.evalSteps)) await save();
      batch = isLate() ? null : next;
    }
    return {
      reason: cancelled ? "cancelled" : isLate() ? "early-stopping" : "finished",
      steps: state.step,
      parameters: await engine.bestParameters(),
      best: state.best,
      losses: history.losses,
      evaluations: history.evaluations,
      paddingShare: state.paddedTokens === 0 ? 0 : 1 - state.realTokens / state.paddedTokens,
      peakRssBytes: memory.peakRssBytes,
      elapsedMs: performance.now() - started,
    };
  } finally {
    try {
      await engine.close();
    } finally {
      await log?.close();
    }
  }
}

/** Optimiser steps of an epoch, and of the whole run. */
export function stepCounts(
  samples: number,
  { batchSize, epochs }: Pick<TrainOptions, "batchSize" | "epochs">,
): { readonly stepsPerEpoch: number; readonly totalSteps: number } {
  const stepsPerEpoch = batchCount(samples, batchSize);
  // 0.07 epochs of 100 steps are 7.000000000000001 in floating point, and 7 steps.
  return { stepsPerEpoch, totalSteps: Math.ceil(epochs * stepsPerEpoch - 1e-9) };
}

/** What options and data must fit together for. */
function checkRun<Sample>(run: TrainingRun<Sample>, options: TrainOptions): void {
  if (run.data.samples.length === 0) {
    throw new PeftError("NO_DATA", "expected at least one sample to train on, received none.");
  }
  if (options.earlyStoppingPatience !== undefined && !run.evaluate) {
    throw new PeftError("CONFIG_INVALID", "expected `evaluate` beside earlyStoppingPatience, received none.", {
      hint: "Early stopping compares evaluations: pass an evaluation program and `evaluate`.",
    });
  }
  if (options.prefixDropout === "off" && options.prefixCache === "off") {
    throw new PeftError("CONFIG_INVALID", 'expected prefixCache beside prefixDropout "off", received "off".', {
      hint: 'Only dropout below kept activations can be left out: set prefixCache to "memory" or a folder.',
    });
  }
  if (run.evaluate && !run.evaluation) {
    throw new PeftError("CONFIG_INVALID", "expected an `evaluation` program beside `evaluate`, received none.", {
      hint: "Build one with buildEvaluationProgram.",
    });
  }
}

async function openEngine<Sample>(
  run: TrainingRun<Sample>,
  options: TrainOptions,
  totalSteps: number,
): Promise<FileEngine> {
  const setup = {
    training: trainedProgram(run.training, options),
    ...(run.evaluation ? { evaluation: run.evaluation } : {}),
    parameters: run.parameters,
    optimizer: options.optimizer,
    groups: run.groups ?? [],
    seed: options.seed,
    totalSteps,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    device: options.device,
  };
  return options.isolation === "inline"
    ? withFiles(await createEngine(onnxruntimeNode, setup))
    : createEngineProcess(setup);
}

interface Evaluated {
  readonly engine: FileEngine;
  readonly state: TrainerState;
  readonly history: History;
  readonly log: MetricsLog | null;
  readonly epoch: number;
}

/** Evaluates and updates the best result and the early-stopping count. */
async function evaluateNow<Sample>(
  run: TrainingRun<Sample>,
  options: TrainOptions,
  { engine, state, history, log, epoch }: Evaluated,
): Promise<void> {
  const metrics = (await run.evaluate?.((feeds) => engine.evaluate(feeds))) ?? {};
  const value = metrics[options.metricForBest];
  if (value === undefined) {
    throw new PeftError(
      "METRIC_MISSING",
      `expected the metric "${options.metricForBest}" at step ${state.step}, the evaluation gave [${Object.keys(metrics).join(", ")}].`,
      { hint: "Set metricForBest to one of these." },
    );
  }
  const { step } = state;
  history.evaluations.push({ step, metrics });
  log?.append(evaluationRecord(step, epoch, metrics));
  const mode = options.greaterIsBetter ? "max" : "min";
  const patience = options.earlyStoppingPatience ?? Number.POSITIVE_INFINITY;
  const { state: early, improved } = earlyStoppingNext(state.early, { step, value }, { patience, minDelta: 0, mode });
  state.early = early;
  if (improved) {
    state.best = { step, metrics };
    await engine.keepBest();
  }
  run.onEvent?.({ type: "evaluation", step, epoch, metrics, best: improved });
}
