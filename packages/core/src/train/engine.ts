import { PeftError } from "../errors.ts";
import type { Growth } from "../methods/method.ts";
import { findNotFinite, globalNorm } from "../optim/clip.ts";
import { createOptimizer } from "../optim/optimizer.ts";
import type { OptimizerInput, ParameterGroup } from "../optim/optimizer-config.ts";
import type { Feeds, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { createDropoutFeeds } from "./dropout-feeds.ts";
import { type GraphFile, type GraphPath, openableGraph } from "./graph-file.ts";
import { locateNonFinite } from "./locate-non-finite.ts";
import { peakRss } from "./memory.ts";
import { createHooks } from "./method-hooks.ts";
import { type EvaluationProgram, gradientName, LOSS_SUM, LOSS_WEIGHT, type TrainingProgram } from "./program.ts";

type AnyGraph = GraphFile | GraphPath;

/** What an engine is made of. Plain data. */
export interface EngineSetup<G extends AnyGraph = AnyGraph> {
  readonly training?: TrainingProgram<G>;
  readonly evaluation?: EvaluationProgram<G>;
  /** Start values of all parameters, with their dimensions. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly optimizer?: OptimizerInput;
  readonly groups?: readonly ParameterGroup[];
  readonly seed: number | string;
  readonly threads?: number;
  /** Steps of the whole training, for methods with a schedule. Default 0. */
  readonly totalSteps?: number;
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
  /** Norm of the whole gradient of the mean loss, before clipping. */
  readonly gradNorm: number;
  readonly elapsedMs: number;
  /** Resident memory of the engine's process, now and at its highest. */
  readonly rssBytes: number;
  readonly peakRssBytes: number;
}

/** Parameters, optimiser state and the state of the method's hooks, as copies. */
export interface EngineState {
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly optimizer: Readonly<Record<string, Float32Array>>;
  readonly hooks: Readonly<Record<string, Float32Array>>;
}

/** Steps, evaluations and snapshots over sessions that are open. Calls must not overlap. */
export interface Engine {
  step(request: StepRequest): Promise<StepResult>;
  evaluate(feeds: Feeds): Promise<Outputs>;
  /** @throws PeftError NOT_FINITE naming the parameter or state that is not: a state that cannot go on is not given out. */
  state(): Promise<EngineState>;
  restore(state: EngineState): Promise<void>;
  close(): Promise<void>;
}

const HINT = "Lower the learning rate, clip the gradient (maxGradNorm) or look at the batch.";

/**
 * An engine in the calling thread. `run` blocks it: for tests, scripts and the child process itself. Each graph is opened
 * once, whatever shapes it will see.
 *
 * @throws PeftError PARAMETER, RUNTIME_OPEN, CONFIG_INVALID, PARAMETER_GROUP_INVALID; from `step` NOT_FINITE, EMPTY_BATCH,
 *   DROPOUT_SIZE, FEED_NAMES, RUNTIME_RUN
 * @example
 * const engine = await createEngine(onnxruntimeNode, { training, parameters, optimizer, seed: 42 });
 * const { loss } = await engine.step({ step: 0, runs: [feeds], learningRateScale: 1 });
 */
export async function createEngine(runtime: Runtime, setup: EngineSetup): Promise<Engine> {
  const { training, evaluation } = setup;
  const tensors = new Map<string, RuntimeTensor & { readonly data: Float32Array }>(
    Object.entries(setup.parameters).map(([name, t]) => [name, { ...t, data: floats(t, name).slice() }]),
  );
  const own = (name: string) =>
    tensors.get(name) ?? fail("PARAMETER", `No value was given for the parameter "${name}".`);
  const pick = (names: readonly string[]): Feeds => Object.fromEntries(names.map((name) => [name, own(name)]));
  const values: Map<string, Float32Array> = new Map((training?.parameters ?? []).map((name) => [name, own(name).data]));
  const sums = new Map(Array.from(values, ([name, { length }]) => [name, new Float32Array(length)]));
  const keptNames = [...(training?.parameters ?? []), ...(training?.state ?? [])];
  let kept = pick(keptNames);
  const hookValues = new Map<string, Float32Array>(Array.from(tensors, ([name, { data }]) => [name, data]));
  const hooks = createHooks(training?.hooks, {
    values: hookValues,
    totalSteps: setup.totalSteps ?? 0,
    seed: setup.seed,
  });
  const optimizer =
    training && setup.optimizer ? createOptimizer(setup.optimizer, values, setup.groups ?? []) : undefined;
  /** Puts a larger tensor in the place of one, everywhere. */
  const grow = ({ name, dims, data, learningRate }: Growth): void => {
    const { dims: before } = own(name);
    tensors.set(name, { type: "float32", dims, data });
    hookValues.set(name, data);
    if (values.has(name)) {
      values.set(name, data);
      sums.set(name, new Float32Array(data.length));
      optimizer?.grow({ name, values: data, dims, before, followsSchedule: learningRate !== "constant" });
    }
    kept = pick(keptNames);
  };
  const sessions: RuntimeSession[] = [];
  const open = async (graph: AnyGraph, purpose: "training" | "evaluation"): Promise<RuntimeSession> => {
    const { externalDataFolder } = graph;
    const session = await runtime.open(await openableGraph(graph), {
      purpose,
      ...(setup.threads === undefined ? {} : { threads: setup.threads }),
      ...(externalDataFolder === undefined ? {} : { externalDataFolder }),
    });
    sessions.push(session);
    return session;
  };
  const close = async (): Promise<void> => {
    for (const session of sessions.splice(0)) await session.close();
  };
  let trainingSession: RuntimeSession | undefined;
  let evaluationSession: RuntimeSession | undefined;
  try {
    if (training) trainingSession = await open(training.graph, "training");
    if (evaluation) evaluationSession = await open(evaluation.graph, "evaluation");
  } catch (error) {
    await close();
    throw error;
  }
  const dropout = createDropoutFeeds({
    sites: training?.dropout ?? [],
    inputs: training?.inputs ?? [],
    inputNames: trainingSession?.inputNames ?? [],
    seed: setup.seed,
  });

  return {
    async step({ step, runs, learningRateScale, maxGradNorm }) {
      if (!training || !trainingSession || !optimizer) {
        throw new PeftError("ENGINE", "This engine was opened without a training graph or an optimiser.");
      }
      const started = performance.now();
      let lossSum = 0;
      let weight = 0;
      for (const sum of sums.values()) sum.fill(0);
      hooks.beforeStep?.(step);
      const masks = dropout(runs, step);
      const feedsOf = (k: number): Feeds => ({ ...runs[k], ...masks[k], ...kept });
      for (let k = 0; k < runs.length; k++) {
        const outputs = await trainingSession.run(feedsOf(k));
        const runLoss = floats(outputs[LOSS_SUM], LOSS_SUM)[0] ?? Number.NaN;
        const runWeight = floats(outputs[LOSS_WEIGHT], LOSS_WEIGHT)[0] ?? Number.NaN;
        if (!Number.isFinite(runLoss + runWeight)) {
          const what = `the loss of micro-batch ${k} is ${runLoss}, its weight ${runWeight}`;
          throw await notFinite(runtime, training.graph, [feedsOf(k)], step, what);
        }
        lossSum += runLoss;
        weight += runWeight;
        for (const [name, sum] of sums) accumulate(sum, floats(outputs[gradientName(name)], gradientName(name)));
      }
      if (!(weight > 0)) {
        throw new PeftError(
          "EMPTY_BATCH",
          `Step ${step}: the total weight of the batch is ${weight}; every label is ignored.`,
        );
      }
      scale(sums, 1 / weight);
      hooks.beforeUpdate?.(step, sums);
      const norm = globalNorm(sums);
      if (!Number.isFinite(norm)) {
        const [bad] = findNotFinite(sums);
        const what = `the gradient of "${bad?.name ?? "?"}" is ${bad?.value ?? norm}`;
        throw await notFinite(runtime, training.graph, Array.from(runs.keys(), feedsOf), step, what);
      }
      // The divisor is that of torch's clip_grad_norm_.
      if (maxGradNorm !== undefined && norm > maxGradNorm) scale(sums, maxGradNorm / (norm + 1e-6));
      optimizer.step(sums, learningRateScale, hooks.held?.());
      hooks.onStep?.(step, sums);
      for (const growth of hooks.grow?.(step) ?? []) grow(growth);
      return {
        loss: lossSum / weight,
        weight,
        gradNorm: norm,
        elapsedMs: performance.now() - started,
        rssBytes: process.memoryUsage.rss(),
        peakRssBytes: peakRss(),
      };
    },
    async evaluate(feeds) {
      if (!evaluation || !evaluationSession) {
        throw new PeftError("ENGINE", "This engine was opened without an evaluation graph.");
      }
      return evaluationSession.run({ ...feeds, ...pick(evaluation.parameters) }, evaluation.outputs);
    },
    async state() {
      const state = optimizer?.state() ?? new Map<string, Float32Array>();
      const [bad] = findNotFinite(new Map([...values, ...state]));
      if (bad) {
        const done = optimizer?.stepCount() ?? 0;
        throw new PeftError("NOT_FINITE", `Step ${done - 1}: its update made "${bad.name}" ${bad.value}.`, {
          hint: HINT,
          details: { step: done - 1, value: bad.name, node: null, op: null },
        });
      }
      const copies = Array.from(tensors, ([name, t]) => [name, { ...t, data: t.data.slice() }] as const);
      return {
        parameters: Object.fromEntries(copies),
        optimizer: Object.fromEntries(state),
        hooks: Object.fromEntries(Object.entries(hooks.state?.() ?? {}).map(([name, data]) => [name, data.slice()])),
      };
    },
    async restore(state) {
      for (const [name, tensor] of Object.entries(state.parameters)) {
        const expected = tensors.get(name)?.data.length ?? 0;
        const data = floats(tensor, name);
        if (expected === data.length) continue;
        const grew = hooks.grow && data.length > expected && tensor.dims.length === own(name).dims.length;
        if (grew) grow({ name, dims: tensor.dims, data: data.slice() });
        else fail("STATE_MISMATCH", `Expected ${expected} values for "${name}", received ${data.length}.`);
      }
      optimizer?.restore(new Map(Object.entries(state.optimizer)));
      for (const [name, tensor] of Object.entries(state.parameters)) own(name).data.set(floats(tensor, name));
      hooks.restore?.(state.hooks);
    },
    close,
  };
}

function fail(code: string, message: string): never {
  throw new PeftError(code, message);
}

function floats(tensor: RuntimeTensor | undefined, name: string): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  return fail("PARAMETER", `Expected float32 values for "${name}", received ${tensor ? tensor.type : "nothing"}.`);
}

function accumulate(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number);
}

function scale(sums: ReadonlyMap<string, Float32Array>, factor: number): void {
  for (const sum of sums.values()) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) * factor;
}

/** The error that ends a run at NaN or infinity, naming the first node that produced one in the first run that has one. */
async function notFinite(
  runtime: Runtime,
  graph: AnyGraph,
  runs: readonly Feeds[],
  step: number,
  what: string,
): Promise<PeftError> {
  for (const feeds of runs) {
    const origin = await locateNonFinite(runtime, graph, feeds);
    if (!origin) continue;
    const maker = origin.node === null ? "which was fed" : `made by ${origin.op} "${origin.node}"`;
    const message = `Step ${step}: ${what}. It first appears in "${origin.value}", ${maker}.`;
    return new PeftError("NOT_FINITE", message, { hint: HINT, details: { step, ...origin } });
  }
  return new PeftError("NOT_FINITE", `Step ${step}: ${what}; no single value of the graph is.`, {
    hint: HINT,
    details: { step },
  });
}
