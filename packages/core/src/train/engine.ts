import { PeftError } from "../errors.ts";
import { clipGlobalNorm, findNotFinite, globalNorm } from "../optim/clip.ts";
import { createOptimizer } from "../optim/optimizer.ts";
import type { OptimizerInput, ParameterGroup } from "../optim/optimizer-config.ts";
import type { Feeds, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { dropoutFeeds } from "./dropout-feeds.ts";
import { locateNonFinite } from "./locate-non-finite.ts";
import { peakRss } from "./memory.ts";
import { type EvaluationProgram, gradientName, LOSS_SUM, LOSS_WEIGHT, type TrainingProgram } from "./program.ts";

/** What an engine is made of. Plain data. */
export interface EngineSetup {
  readonly training?: TrainingProgram;
  readonly evaluation?: EvaluationProgram;
  /** Start values of all parameters, with their dimensions. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly optimizer?: OptimizerInput;
  readonly groups?: readonly ParameterGroup[];
  readonly seed: number | string;
  readonly threads?: number;
}

export interface StepRequest {
  /** Number of the step, from 0: names the dropout masks. */
  readonly step: number;
  /** Micro-batches; their gradients add up. */
  readonly runs: readonly Feeds[];
  readonly learningRateScale: number;
  /** Largest norm of the whole gradient; none by default. */
  readonly maxGradNorm?: number;
}

export interface StepResult {
  /** Mean loss of the batch: sum of losses over sum of weights. */
  readonly loss: number;
  readonly weight: number;
  readonly gradNorm: number;
  readonly elapsedMs: number;
  /** Resident memory of the engine's process, now and at its highest. */
  readonly rssBytes: number;
  readonly peakRssBytes: number;
}

/** Parameters and optimiser state, as copies. */
export interface EngineState {
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly optimizer: Readonly<Record<string, Float32Array>>;
}

/** Steps, evaluations and snapshots over sessions that are open. The same face in this process and in a child. */
export interface Engine {
  step(request: StepRequest): Promise<StepResult>;
  evaluate(feeds: Feeds): Promise<Outputs>;
  state(): Promise<EngineState>;
  restore(state: EngineState): Promise<void>;
  close(): Promise<void>;
}

const open = (runtime: Runtime, program: TrainingProgram | EvaluationProgram, threads: number | undefined): Promise<RuntimeSession> =>
  runtime.open(program.graph.bytes, {
    purpose: "training",
    ...(threads === undefined ? {} : { threads }),
    ...(program.graph.externalDataFolder === undefined ? {} : { externalDataFolder: program.graph.externalDataFolder }),
  });

const floats = (tensor: RuntimeTensor | undefined, name: string): Float32Array => {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw new PeftError("PARAMETER", `Expected float32 values for "${name}", received ${tensor ? tensor.type : "nothing"}.`);
};

/** An engine in the calling thread. `run` blocks it: for tests, scripts and the child process itself. */
export async function createEngine(runtime: Runtime, setup: EngineSetup): Promise<Engine> {
  const tensors = new Map(Object.entries(setup.parameters).map(([name, t]) => [name, { ...t, data: Float32Array.from(floats(t, name)) }]));
  const { training, evaluation } = setup;
  const trained = training?.parameters ?? [];
  const values = new Map(trained.map((name) => [name, floats(tensors.get(name), name)]));
  const sums = new Map(trained.map((name) => [name, new Float32Array(floats(tensors.get(name), name).length)]));
  const optimizer = training && setup.optimizer ? createOptimizer(setup.optimizer, values, setup.groups ?? []) : undefined;
  const trainingSession = training ? await open(runtime, training, setup.threads) : undefined;
  const evaluationSession = evaluation ? await open(runtime, evaluation, setup.threads) : undefined;
  const pick = (names: readonly string[]): Record<string, RuntimeTensor> =>
    Object.fromEntries(names.map((name) => [name, tensors.get(name) ?? missing(name)]));

  return {
    async step({ step, runs, learningRateScale, maxGradNorm }) {
      if (!training || !trainingSession || !optimizer) throw new PeftError("ENGINE", "This engine was opened without a training graph.");
      const started = performance.now();
      let [lossSum, weight] = [0, 0];
      for (const sum of sums.values()) sum.fill(0);
      const masks = dropoutFeeds(training.dropout, training.inputs, runs, setup.seed, step);
      for (const [k, run] of runs.entries()) {
        const feeds = { ...run, ...masks[k], ...pick(trained) };
        const outputs = await trainingSession.run(feeds);
        const runLoss = floats(outputs[LOSS_SUM], LOSS_SUM)[0] ?? 0;
        if (!Number.isFinite(runLoss)) throw await stopped(runtime, training, feeds, step, `the loss of micro-batch ${k} is ${runLoss}`);
        lossSum += runLoss;
        weight += floats(outputs[LOSS_WEIGHT], LOSS_WEIGHT)[0] ?? 0;
        for (const [name, sum] of sums) accumulate(sum, floats(outputs[gradientName(name)], gradientName(name)));
      }
      if (!(weight > 0)) {
        throw new PeftError("EMPTY_BATCH", `Step ${step}: the total weight of the batch is ${weight}; every label is ignored.`);
      }
      scale(sums, 1 / weight);
      const norm = globalNorm(sums);
      if (!Number.isFinite(norm)) {
        const [bad] = findNotFinite(sums);
        const feeds = { ...runs[0], ...masks[0], ...pick(trained) };
        throw await stopped(runtime, training, feeds, step, `the gradient of "${bad?.name ?? "?"}" is ${bad?.value ?? norm}`);
      }
      if (maxGradNorm !== undefined) clipGlobalNorm(sums, maxGradNorm);
      optimizer.step(sums, learningRateScale);
      const rssBytes = process.memoryUsage.rss();
      return { loss: lossSum / weight, weight, gradNorm: norm, elapsedMs: performance.now() - started, rssBytes, peakRssBytes: peakRss() };
    },
    async evaluate(feeds) {
      if (!evaluation || !evaluationSession) throw new PeftError("ENGINE", "This engine was opened without an evaluation graph.");
      return evaluationSession.run({ ...feeds, ...pick(evaluation.parameters) }, evaluation.outputs);
    },
    async state() {
      const parameters = Object.fromEntries([...tensors].map(([name, t]) => [name, { ...t, data: t.data.slice() }]));
      return { parameters, optimizer: optimizer ? Object.fromEntries(optimizer.state()) : {} };
    },
    async restore(state) {
      for (const [name, tensor] of Object.entries(state.parameters)) {
        const own = tensors.get(name);
        const data = floats(tensor, name);
        if (own?.data.length !== data.length) {
          throw new PeftError("STATE_MISMATCH", `Expected ${own?.data.length ?? 0} values for "${name}", received ${data.length}.`);
        }
        own.data.set(data);
      }
      optimizer?.restore(new Map(Object.entries(state.optimizer)));
    },
    async close() {
      await trainingSession?.close();
      await evaluationSession?.close();
    },
  };
}

function missing(name: string): never {
  throw new PeftError("PARAMETER", `No value was given for the parameter "${name}".`);
}

function accumulate(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number);
}

function scale(sums: ReadonlyMap<string, Float32Array>, factor: number): void {
  for (const sum of sums.values()) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) * factor;
}

/** The error that ends a run at NaN or infinity, naming the first node that produced one. */
async function stopped(runtime: Runtime, program: TrainingProgram, feeds: Feeds, step: number, what: string): Promise<PeftError> {
  const origin = await locateNonFinite(runtime, program, feeds);
  const where = origin ? ` It first appears in "${origin.value}", made by ${origin.op} "${origin.node}".` : "";
  return new PeftError("NOT_FINITE", `Step ${step}: ${what}.${where}`, {
    hint: "Lower the learning rate, clip the gradient (maxGradNorm) or look at the batch.",
    details: { step, ...origin },
  });
}
