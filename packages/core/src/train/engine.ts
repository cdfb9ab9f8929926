import { PeftError } from "../errors.ts";
import { requireInt8Device } from "../int8/int8-device.ts";
import type { OptimizerInput, ParameterGroup } from "../optim/optimizer-config.ts";
import { type Device, onDevice } from "../runtime/device.ts";
import type { Placement } from "../runtime/placement.ts";
import type { Feeds, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { createDropoutFeeds, symbolSizes } from "./dropout-feeds.ts";
import { type GraphFile, type GraphPath, openableGraph } from "./graph-file.ts";
import {
  createMember,
  type EngineTensors,
  floats,
  type MeanGradients,
  type Member,
  type MemberResult,
  type MemberSetup,
  type MemberStep,
  NOT_FINITE_HINT,
} from "./member.ts";
import { peakRss } from "./memory.ts";
import { LOSS_SUM, LOSS_WEIGHT } from "./output-names.ts";
import type { EvaluationProgram, ProgramMember, TrainingProgram } from "./program.ts";
import { unrolledGradient } from "./unrolled-gradient.ts";

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
  /** Where the graphs run. Default "cpu". */
  readonly device?: Device;
  /** Steps of the whole training, for methods with a schedule. Default 0. */
  readonly totalSteps?: number;
  /** Where the program trains several adapters at once: what each of them needs, by name, in the place of the four above. */
  readonly members?: Readonly<Record<string, MemberSetup>>;
}

/** A step of one adapter; `step` names the dropout masks. */
export interface StepRequest extends MemberStep {
  /** Micro-batches; their gradients add up. */
  readonly runs: readonly Feeds[];
  /** Where several adapters are trained at once: those that make a step, in the place of the request's own numbers. */
  readonly members?: Readonly<Record<string, MemberStep>>;
  /**
   * For a step of one member: micro-batches of another one, one of whose steps (of plain gradient descent at this learning rate) is
   * looked ahead. See {@link unrolledGradient}; four times the work.
   */
  readonly ahead?: { readonly member: string; readonly runs: readonly Feeds[]; readonly learningRate: number };
}

/** A member that makes a step. */
interface Asked {
  readonly name: string;
  readonly own: MemberStep;
  readonly member: Member;
}

/** Loss, weight and norm are those of all adapters together where there are several. */
export interface StepResult extends MemberResult {
  readonly members: Readonly<Record<string, MemberResult>>;
  readonly elapsedMs: number;
  /** Resident memory of the engine's process, now and at its highest. */
  readonly rssBytes: number;
  readonly peakRssBytes: number;
  /** Where the nodes of the training graph run, on another device than the CPU. */
  readonly placement?: Placement;
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

/** The name of the one adapter, where there are not several. */
const ONLY = "";

const programMembers = (training: TrainingProgram<AnyGraph>): Readonly<Record<string, ProgramMember>> =>
  training.members ?? { [ONLY]: { ...training, lossSum: LOSS_SUM, lossWeight: LOSS_WEIGHT } };

/** Names of a member's state among those of all. */
const stateName = (member: string, name: string): string =>
  member === ONLY ? name : `${encodeURIComponent(member)}/${name}`;

/**
 * An engine in the calling thread. `run` blocks it: for tests, scripts and the child process itself. Each graph is opened
 * once, whatever shapes it will see.
 *
 * @throws PeftError PARAMETER, RUNTIME_OPEN, DEVICE_UNAVAILABLE, CONFIG_INVALID, PARAMETER_GROUP_INVALID; from `step` NOT_FINITE, EMPTY_BATCH,
 *   DROPOUT_SIZE, FEED_NAMES, RUNTIME_RUN
 * @example
 * const engine = await createEngine(onnxruntimeNode, { training, parameters, optimizer, seed: 42 });
 * const { loss } = await engine.step({ step: 0, runs: [feeds], learningRateScale: 1 });
 */
export async function createEngine(engine: Runtime, setup: EngineSetup): Promise<Engine> {
  const { training, evaluation, device = "cpu" } = setup;
  if (training?.isInt8) requireInt8Device(device);
  const runtime = onDevice(engine, device);
  const tensors: EngineTensors = new Map(
    Object.entries(setup.parameters).map(([name, t]) => [name, { ...t, data: floats(t, name).slice() }]),
  );
  const own = (name: string) =>
    tensors.get(name) ?? fail("PARAMETER", `No value was given for the parameter "${name}".`);
  const pick = (names: readonly string[]): Feeds => Object.fromEntries(names.map((name) => [name, own(name)]));
  const keptNames = [...(training?.parameters ?? []), ...(training?.state ?? [])];
  let kept = pick(keptNames);
  const members = new Map<string, Member>();
  for (const [name, program] of Object.entries(training ? programMembers(training) : {})) {
    const own = setup.members ? setup.members[name] : setup.optimizer && { ...setup, optimizer: setup.optimizer };
    if (own) members.set(name, await createMember(program, own, tensors));
    else if (setup.members) fail("ENGINE", `Nothing is said about the optimiser of "${name}".`);
  }
  const sessions: RuntimeSession[] = [];
  const open = async (
    { graph, packWeights }: TrainingProgram<AnyGraph> | EvaluationProgram<AnyGraph>,
    purpose: "training" | "evaluation",
  ): Promise<RuntimeSession> => {
    const { externalDataFolder } = graph;
    const session = await runtime.open(await openableGraph(graph), {
      purpose,
      recordPlacement: device !== "cpu" && purpose === "training",
      packWeights,
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
    if (training) trainingSession = await open(training, "training");
    if (evaluation) evaluationSession = await open(evaluation, "evaluation");
  } catch (error) {
    await close();
    throw error;
  }
  const dropout = createDropoutFeeds({
    sites: training?.dropout ?? [],
    inputs: training?.inputs ?? [],
    sizes: symbolSizes(training?.sized ?? [], setup.parameters),
    inputNames: trainingSession?.inputNames ?? [],
    seed: setup.seed,
  });

  const memberOf = (name: string): Member => members.get(name) ?? fail("ENGINE", `The program trains no "${name}".`);
  /** Runs a batch; the members have its gradients then. Returns the feeds of a run, for errors. */
  const runBatch = async (
    step: number,
    runs: readonly Feeds[],
    asked: readonly Asked[],
    wanted: readonly string[] | undefined,
  ): Promise<(k: number) => Feeds> => {
    if (!training || !trainingSession) {
      throw new PeftError("ENGINE", "This engine was opened without a training graph or an optimiser.");
    }
    for (const { own, member } of asked) member.begin(own.step);
    const masks = dropout(runs, step);
    const feedsOf = (k: number): Feeds => ({ ...runs[k], ...masks[k], ...kept });
    const title = (name: string): string => (name === ONLY ? "" : ` of "${name}"`);
    for (let k = 0; k < runs.length; k++) {
      const outputs = await trainingSession.run(feedsOf(k), wanted);
      for (const { name, member } of asked) {
        const problem = member.add(outputs);
        if (problem === null) continue;
        const what = `the loss of micro-batch ${k}${title(name)} ${problem}`;
        throw await notFinite(runtime, training.graph, [feedsOf(k)], step, what);
      }
    }
    return feedsOf;
  };
  /** A member's gradients one step of another one ahead. */
  const lookAhead = async (
    step: number,
    runs: readonly Feeds[],
    asked: readonly Asked[],
    ahead: NonNullable<StepRequest["ahead"]>,
  ): Promise<MeanGradients> => {
    const [one] = asked;
    if (!one || asked.length > 1) return fail("ENGINE", "Only a step of a single member looks ahead.");
    const inner = { name: ahead.member, own: one.own, member: memberOf(ahead.member) };
    const both = [one, inner];
    const wanted = [...new Set(both.flatMap(({ member }) => member.outputs))];
    let outer: MeanGradients | undefined;
    const gradients = await unrolledGradient({
      weights: inner.member.values,
      rate: ahead.learningRate,
      async gradients(of) {
        await runBatch(step, of === "inner" ? ahead.runs : runs, both, wanted);
        const own = one.member.mean(step);
        if (of === "outer") outer = own;
        return new Map([...own.gradients, ...inner.member.mean(step).gradients]);
      },
    });
    const { loss, weight } = outer ?? one.member.mean(step);
    return { loss, weight, gradients: new Map([...gradients].filter(([name]) => one.member.values.has(name))) };
  };

  return {
    async step(request) {
      const { step, runs, ahead } = request;
      if (!training || !trainingSession || members.size === 0) {
        throw new PeftError("ENGINE", "This engine was opened without a training graph or an optimiser.");
      }
      const started = performance.now();
      const asked = Object.entries(request.members ?? { [ONLY]: request }).map(
        ([name, own]): Asked => ({ name, own, member: memberOf(name) }),
      );
      const wanted = request.members ? [...new Set(asked.flatMap(({ member }) => member.outputs))] : undefined;
      const given = ahead ? await lookAhead(step, runs, asked, ahead) : undefined;
      const masked = (k: number): Feeds => ({ ...runs[k], ...dropout(runs, step)[k], ...kept });
      const feedsOf = given ? masked : await runBatch(step, runs, asked, wanted);
      const results: Record<string, MemberResult> = {};
      for (const { name, own, member } of asked) {
        const result = member.update(own, given);
        if (typeof result === "string")
          throw await notFinite(runtime, training.graph, Array.from(runs.keys(), feedsOf), step, result);
        results[name] = result;
      }
      kept = pick(keptNames); // tensors may have grown
      const { placement } = trainingSession;
      return {
        ...together(Object.values(results)),
        members: results,
        elapsedMs: performance.now() - started,
        rssBytes: process.memoryUsage.rss(),
        peakRssBytes: peakRss(),
        ...(placement ? { placement } : {}),
      };
    },
    async evaluate(feeds) {
      if (!evaluation || !evaluationSession) {
        throw new PeftError("ENGINE", "This engine was opened without an evaluation graph.");
      }
      return evaluationSession.run({ ...feeds, ...pick(evaluation.parameters) }, evaluation.outputs);
    },
    async state() {
      const optimizer: Record<string, Float32Array> = {};
      const hooks: Record<string, Float32Array> = {};
      for (const [member, { state }] of members) {
        const own = state();
        for (const [name, data] of own.optimizer) optimizer[stateName(member, name)] = data;
        for (const [name, data] of Object.entries(own.hooks)) hooks[stateName(member, name)] = data;
      }
      const copies = Array.from(tensors, ([name, t]) => [name, { ...t, data: t.data.slice() }] as const);
      return { parameters: Object.fromEntries(copies), optimizer, hooks };
    },
    async restore(state) {
      for (const [name, tensor] of Object.entries(state.parameters)) {
        const expected = tensors.get(name)?.data.length ?? 0;
        const data = floats(tensor, name);
        if (expected === data.length) continue;
        const growing = [...members.values()].find((member) => member.mayGrow(name));
        const grew = growing && data.length > expected && tensor.dims.length === own(name).dims.length;
        if (grew) growing.grow({ name, dims: tensor.dims, data: data.slice() });
        else fail("STATE_MISMATCH", `Expected ${expected} values for "${name}", received ${data.length}.`);
      }
      kept = pick(keptNames);
      for (const [name, member] of members) member.restoreOptimizer(new Map(ownState(state.optimizer, name)));
      for (const [name, tensor] of Object.entries(state.parameters)) own(name).data.set(floats(tensor, name));
      for (const [name, member] of members) member.restoreHooks(Object.fromEntries(ownState(state.hooks, name)));
    },
    close,
  };
}

function fail(code: string, message: string): never {
  throw new PeftError(code, message);
}

/** A member's entries among the states of all. */
const ownState = (all: Readonly<Record<string, Float32Array>>, member: string): [string, Float32Array][] =>
  Object.entries(all)
    .filter(([name]) => name.startsWith(stateName(member, "")))
    .map(([name, data]) => [name.slice(stateName(member, "").length), data]);

/** What the steps of several members are as one. */
function together(results: readonly MemberResult[]): MemberResult {
  const [only] = results;
  if (results.length === 1 && only) return only;
  const weight = results.reduce((sum, result) => sum + result.weight, 0);
  return {
    loss: results.reduce((sum, result) => sum + result.loss * result.weight, 0) / weight,
    weight,
    gradNorm: Math.hypot(...results.map((result) => result.gradNorm)),
  };
}

/** The error that ends a run at NaN or infinity, naming the first node that produced one in the first run that has one. */
async function notFinite(
  runtime: Runtime,
  graph: AnyGraph,
  runs: readonly Feeds[],
  step: number,
  what: string,
): Promise<PeftError> {
  const { locateNonFinite } = await import("./locate-non-finite.ts");
  for (const feeds of runs) {
    const origin = await locateNonFinite(runtime, graph, feeds);
    if (!origin) continue;
    const maker = origin.node === null ? "which was fed" : `made by ${origin.op} "${origin.node}"`;
    const message = `Step ${step}: ${what}. It first appears in "${origin.value}", ${maker}.`;
    return new PeftError("NOT_FINITE", message, { hint: NOT_FINITE_HINT, details: { step, ...origin } });
  }
  return new PeftError("NOT_FINITE", `Step ${step}: ${what}; no single value of the graph is.`, {
    hint: NOT_FINITE_HINT,
    details: { step },
  });
}
