import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { learningRateAt } from "../optim/schedule.ts";
import type { ParameterGroup } from "../optim/optimizer-config.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { batchCount, batchesOf, epochOrder } from "./batch-order.ts";
import { earlyStoppingNext } from "./early-stopping.ts";
import { createEngine, type Engine } from "./engine.ts";
import { createEngineProcess } from "./engine-process.ts";
import type { MetricsLog } from "./metrics-log.ts";
import { planMicroBatches } from "./micro-batches.ts";
import { type TrainOptions, type TrainOptionsInput, trainOptions } from "./options.ts";
import type { EvaluationProgram, TrainingProgram } from "./program.ts";
import { createProgress, type ProgressEvent } from "./progress.ts";
import { openRunFolder, type RunFolder, startState, type TrainerState } from "./run-folder.ts";

/** How samples become feeds. */
export interface TrainingData<Sample> {
  readonly samples: ArrayLike<Sample>;
  /** Tokens (or other units) of a sample, which decide how a batch is cut. */
  lengthOf(sample: Sample): number;
  /** Pads samples to their longest. `key` names the micro-batch, for collators that draw random numbers. */
  collate(samples: readonly Sample[], key: string): Feeds;
  /** True when the loss compares samples with each other: a batch is then one run. */
  readonly wholeBatch?: boolean;
}

export type Metrics = Readonly<Record<string, number>>;

export type TrainEvent =
  | ProgressEvent
  | { readonly type: "evaluation"; readonly step: number; readonly epoch: number; readonly metrics: Metrics; readonly best: boolean }
  | { readonly type: "checkpoint"; readonly step: number };

export interface TrainingRun<Sample> {
  readonly training: TrainingProgram;
  readonly evaluation?: EvaluationProgram;
  /** Start values of everything that is fed as a parameter. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly groups?: readonly ParameterGroup[];
  readonly data: TrainingData<Sample>;
  /** Computes metrics with the current parameters; called every `evalSteps`. */
  readonly evaluate?: (run: (feeds: Feeds) => Promise<Outputs>) => Promise<Metrics>;
  readonly options: TrainOptionsInput;
  /** Where checkpoints and metrics.jsonl go; nothing is written without it. A run that was interrupted there goes on. */
  readonly folder?: string;
  /** Stops between two steps, with a checkpoint. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainEvent) => void;
}

export interface TrainingResult {
  readonly reason: "finished" | "cancelled" | "early-stopping";
  readonly steps: number;
  /** Parameters of the best evaluation, or the last ones when nothing was evaluated. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly best: { readonly step: number; readonly metrics: Metrics } | null;
  readonly losses: readonly number[];
  readonly evaluations: readonly { readonly step: number; readonly metrics: Metrics }[];
  /** Share of padding in all tokens that were run. */
  readonly paddingShare: number;
  readonly peakRssBytes: number;
  readonly elapsedMs: number;
}

/**
 * Trains: batch, step, report, evaluate, save. With a `folder` a killed run is continued by calling this again: data
 * order and dropout are functions of (seed, step), and the optimiser's state is saved, so the result is bit-equal to that
 * of a run without interruption.
 *
 * @throws PeftError NOT_FINITE (naming step and node), ENGINE_CRASHED, CONFIG_INVALID, RESUME_MISMATCH
 * @example
 * const result = await train({ training, parameters, data, options: { optimizer: { type: "adamw", learningRate: 1e-3 } } });
 */
export async function train<Sample>(run: TrainingRun<Sample>): Promise<TrainingResult> {
  const options = parseConfig(trainOptions, run.options, "training options");
  const count = run.data.samples.length;
  const stepsPerEpoch = batchCount(count, options.batchSize);
  const totalSteps = Math.ceil(options.epochs * stepsPerEpoch);
  const folder = run.folder === undefined ? null : await openRunFolder(run.folder, fingerprint(run, options));
  const resumed = folder ? await folder.load() : null;
  const engine = await openEngine(run, options);
  const started = performance.now();
  try {
    if (resumed) await engine.restore(resumed.engine);
    const state: TrainerState = resumed?.state ?? startState();
    let best = resumed?.best ?? null;
    const log = folder ? await folder.openLog(state.step) : null;
    const progress = createProgress({ totalSteps, startStep: state.step, residentBytes: () => state.rssBytes });
    let reason: TrainingResult["reason"] = "finished";
    let batches = { epoch: -1, list: [] as Int32Array[] };
    const prepare = (step: number): Batch | null => {
      if (step >= totalSteps) return null;
      const epoch = Math.floor(step / stepsPerEpoch);
      if (batches.epoch !== epoch) batches = { epoch, list: batchesOf(epochOrder(count, options.seed, epoch), options.batchSize) };
      return prepareBatch(run.data, batches.list[step % stepsPerEpoch] ?? new Int32Array(), step, options);
    };
    let next = prepare(state.step);
    while (next) {
      if (run.signal?.aborted) {
        reason = "cancelled";
        break;
      }
      const { step, batch } = { step: state.step, batch: next };
      const scale = options.schedule ? learningRateAt(step, totalSteps, options.schedule) : 1;
      const running = engine.step({
        step, runs: batch.runs, learningRateScale: scale,
        ...(options.maxGradNorm === undefined ? {} : { maxGradNorm: options.maxGradNorm }),
      });
      next = prepare(step + 1); // while the engine works
      const result = await running;
      state.step = step + 1;
      state.losses.push(result.loss);
      state.realTokens += batch.realTokens;
      state.paddedTokens += batch.paddedTokens;
      state.rssBytes = result.rssBytes;
      state.peakRssBytes = Math.max(state.peakRssBytes, result.peakRssBytes);
      const epoch = state.step / stepsPerEpoch;
      const event = progress({
        step: state.step, epoch, loss: result.loss, learningRate: scale * options.optimizer.learningRate,
        gradientNorm: result.gradNorm, samples: batch.samples, tokens: batch.realTokens,
      });
      log?.append({ step: state.step, epoch, loss: result.loss, learningRate: event.learningRate, gradientNorm: result.gradNorm });
      run.onEvent?.(event);

      const last = state.step === totalSteps;
      const due = (every: number | undefined): boolean => last || state.step % (every ?? stepsPerEpoch) === 0;
      if (run.evaluate && due(options.evalSteps)) {
        const outcome = await evaluateNow(run, engine, state, options, epoch, log);
        best = outcome.best ?? best;
        if (outcome.stop) reason = "early-stopping";
      }
      if (folder && due(options.saveSteps ?? options.evalSteps)) await save(run, folder, engine, state, best, log);
      if (reason === "early-stopping") break;
    }
    if (folder && reason === "cancelled") await save(run, folder, engine, state, best, log);
    const { parameters } = best ?? (await engine.state());
    await log?.close();
    return {
      reason, steps: state.step, parameters,
      best: state.best,
      losses: state.losses,
      evaluations: state.evaluations,
      paddingShare: state.paddedTokens === 0 ? 0 : 1 - state.realTokens / state.paddedTokens,
      peakRssBytes: state.peakRssBytes,
      elapsedMs: performance.now() - started,
    };
  } finally {
    await engine.close();
  }
}

interface Batch {
  readonly runs: Feeds[];
  readonly samples: number;
  readonly realTokens: number;
  readonly paddedTokens: number;
}

function prepareBatch<Sample>(data: TrainingData<Sample>, indices: Int32Array, step: number, options: TrainOptions): Batch {
  const items = Array.from(indices, (i) => data.samples[i] as Sample);
  const lengths = items.map((item) => data.lengthOf(item));
  const plan = planMicroBatches(lengths, { maxTokens: data.wholeBatch ? Number.MAX_SAFE_INTEGER : options.microBatchTokens });
  const runs = plan.runs.map((run, k) => data.collate(Array.from(run, (i) => items[i] as Sample), `${step}.${k}`));
  return { runs, samples: items.length, realTokens: plan.realTokens, paddedTokens: plan.paddedTokens };
}

function openEngine<Sample>(run: TrainingRun<Sample>, options: TrainOptions): Promise<Engine> {
  const setup = {
    training: run.training,
    ...(run.evaluation ? { evaluation: run.evaluation } : {}),
    parameters: run.parameters,
    optimizer: options.optimizer,
    groups: run.groups ?? [],
    seed: options.seed,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  };
  return options.isolation === "inline" ? createEngine(onnxruntimeNode, setup) : createEngineProcess(setup);
}

type BestParameters = Pick<TrainingResult, "parameters">;

/** Evaluates, updates the best result and the early-stopping count; `best` holds the parameters when they are the best so far. */
async function evaluateNow<Sample>(
  run: TrainingRun<Sample>, engine: Engine, state: TrainerState, options: TrainOptions, epoch: number, log: MetricsLog | null,
): Promise<{ best: BestParameters | null; stop: boolean }> {
  const metrics = (await run.evaluate?.((feeds) => engine.evaluate(feeds))) ?? {};
  state.evaluations.push({ step: state.step, metrics });
  log?.append({ step: state.step, epoch, ...Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval.${name}`, value])) });
  const value = metrics[options.metricForBest];
  if (value === undefined) {
    throw new PeftError("METRIC_MISSING", `The evaluation gave [${Object.keys(metrics).join(", ")}], not "${options.metricForBest}".`, {
      hint: "Set metricForBest to one of these.",
    });
  }
  const next = earlyStoppingNext(state.early, { step: state.step, value }, {
    patience: options.earlyStoppingPatience ?? Number.MAX_SAFE_INTEGER, minDelta: 0, mode: options.greaterIsBetter ? "max" : "min",
  });
  state.early = next.state;
  run.onEvent?.({ type: "evaluation", step: state.step, epoch, metrics, best: next.improved });
  if (!next.improved) return { best: null, stop: next.stop };
  state.best = { step: state.step, metrics };
  return { best: { parameters: (await engine.state()).parameters }, stop: false };
}

async function save<Sample>(
  run: TrainingRun<Sample>, folder: RunFolder, engine: Engine, state: TrainerState, best: BestParameters | null, log: MetricsLog | null,
): Promise<void> {
  await log?.flush();
  await folder.save(state, await engine.state(), best);
  run.onEvent?.({ type: "checkpoint", step: state.step });
}

/** What must be equal for a checkpoint to be continued. */
function fingerprint<Sample>(run: TrainingRun<Sample>, options: TrainOptions): Record<string, unknown> {
  const { threads: _threads, isolation: _isolation, ...rest } = options;
  const parameters = Object.entries(run.parameters).map(([name, { dims }]) => `${name}[${dims.join(",")}]`);
  return { options: rest, samples: run.data.samples.length, parameters };
}
