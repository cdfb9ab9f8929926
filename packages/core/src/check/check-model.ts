import { freemem } from "node:os";
import { mergeAdapter } from "../adapters/merge.ts";
import type { Site, SiteKind } from "../adapters/site.ts";
import { findSites } from "../adapters/sites.ts";
import { describeModel } from "../describe/describe.ts";
import { type MissingOperator, unknownOperators } from "../describe/missing-rules.ts";
import { PeftError } from "../errors.ts";
import { bindInputs } from "../lowering/bind-inputs.ts";
import { type BranchChoice, branchChoices, chooseBranches, undecidedBranches } from "../lowering/choose-branches.ts";
import { type FreedSize, freeSizes } from "../lowering/free-sizes.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { MemoryEstimate } from "../memory/estimate.ts";
import { full } from "../methods/full.ts";
import { lora } from "../methods/lora.ts";
import type { Method } from "../methods/method.ts";
import type { Graph, Model, Value } from "../onnx/ir.ts";
import type { Feeds, Runtime } from "../runtime/runtime.ts";
import { checkGradients, type GradientAgreement, type GradientCheck, type StepTime } from "./check-gradients.ts";
import { feedsFor, findBakedSizes, findWorkingRun, type WorkingRun } from "./find-sizes.ts";
import type { InputSizes } from "./input-sizes.ts";
import { exporterOf, precisionOf } from "./model-facts.ts";
import { openModel } from "./open-model.ts";
import { type TrainableSites, trainableSites } from "./trainable-sites.ts";
import { floatsOf, outputOf, relativeDistance } from "./vectors.ts";

export interface CheckModelOptions {
  /** Sizes that memory and time are estimated for; default 8 and 128. */
  readonly batch?: number;
  readonly tokens?: number;
  /** Threads of the runtime; default its own choice. */
  readonly threads?: number;
  /** Kinds of sites to check; default all that the model has. */
  readonly kinds?: readonly SiteKind[];
  /** Truth values of inputs that choose a branch of the file: see {@link bindInputs}. Default the branch without a cache. */
  readonly bind?: Readonly<Record<string, boolean>>;
}

export type Verdict = "ready" | "ready with limits" | "not trainable";

/** What was found out about one kind of sites. */
export interface KindCheck {
  readonly kind: SiteKind;
  /** How it was adapted: LoRA of rank 2, or the weights themselves. */
  readonly method: string;
  readonly sites: number;
  /** Null when something failed before gradients could be compared: see `problem`. */
  readonly gradients: GradientAgreement | null;
  /** Distance of merged from unmerged outputs, relative; null when merging was refused. */
  readonly merged: number | null;
  readonly problem: string | null;
}

export interface ModelCheck {
  readonly verdict: Verdict;
  /** Why it is not trainable, or which limits there are. */
  readonly reasons: readonly string[];
  readonly opset: number | null;
  readonly exporter: string;
  readonly precision: string;
  /** Of the branch that is trained, where there are several. */
  readonly nodes: number;
  /** What inputs that choose a branch were set to, and why. */
  readonly branches: readonly BranchChoice[];
  /** Sizes that the file runs with alone, though it declares them free; training and merging let them vary. */
  readonly freed: readonly FreedSize[];
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly sites: readonly Pick<Site, "name" | "kind" | "inFeatures" | "outFeatures" | "hasBias" | "nameSource">[];
  /** Sizes of the inputs that were made up. */
  readonly sizes: InputSizes | null;
  readonly unknownOperators: readonly MissingOperator[];
  /** Operators without a rule that lie between sites and outputs. */
  readonly operatorsInTheWay: readonly MissingOperator[];
  readonly kinds: readonly KindCheck[];
  /** Null when it cannot be trained. */
  readonly memory: MemoryEstimate | null;
  /** What the estimate trains, in words. */
  readonly trained: string;
  /** Sizes that the estimate is for. */
  readonly memorySizes: Readonly<Record<string, number>>;
  /** Time of a training step of the first kind of `kinds` on this machine; null when none ran. */
  readonly step: StepTime | null;
}

const methods: readonly { readonly kind: SiteKind; readonly method: Method; readonly label: string }[] = [
  { kind: "linear", method: lora as unknown as Method, label: "LoRA" },
  { kind: "conv", method: full as unknown as Method, label: "weights" },
  { kind: "norm", method: full as unknown as Method, label: "weights" },
  { kind: "embedding", method: full as unknown as Method, label: "weights" },
];

/** Relative difference of merged and unmerged outputs that rounding explains: merged weights are stored in the file's type. */
const mergeTolerance = (model: Model): number => (isRounded(model) ? 5e-2 : 1e-4);

/** True for files that compute in less than float32. */
const isRounded = (model: Model): boolean => precisionOf(chooseBranches(model)) !== "float32";

/** The inputs of the file, and the nodes that read them in the branch that is trained. */
function readGraph(model: Model): Graph {
  const { nodes, initializers } = chooseBranches(model).graph;
  return { ...model.graph, nodes, initializers };
}

/** Inputs that choose that branch. */
const chosenFeeds = (model: Model): Feeds =>
  Object.fromEntries(
    branchChoices(model).map(({ input, value }) => {
      const shape = model.graph.inputs.find((v) => v.name === input)?.shape ?? [];
      return [input, { type: "bool", dims: shape.map(() => 1), data: Uint8Array.of(value ? 1 : 0) }];
    }),
  );

/**
 * Tries a model: finds its sites and what stands in their way, makes up inputs, runs it, compares the gradients of adapters
 * with finite differences and merged outputs with unmerged ones, and says in one word whether it can be trained. Nothing about
 * the model is assumed, and nothing is trained or written. Costs some 60 runs of 2 short rows.
 *
 * Problems of the model are part of the result and not thrown.
 * @throws PeftError INPUT_UNKNOWN, INPUT_TYPE for values of `bind` that fit no input
 * @param runtime the engine, e.g. `onnxruntimeNode`.
 * @example
 * const check = await checkModel(await readModel("model.onnx"), onnxruntimeNode);
 * process.stdout.write(formatCheck(check)); // ... verdict: ready
 */
export async function checkModel(given: Model, runtime: Runtime, options: CheckModelOptions = {}): Promise<ModelCheck> {
  const { model, freed } = freeSizes(bindInputs(given, options.bind ?? {}));
  const chosen = chooseBranches(model);
  const facts = {
    opset: model.opsets.get("") ?? model.opsets.get("ai.onnx") ?? null,
    exporter: exporterOf(chosen),
    precision: precisionOf(chosen),
    nodes: chosen.graph.nodes.length,
    branches: branchChoices(model),
    freed,
    inputs: model.graph.inputs.filter(({ name }) => !model.graph.initializers.has(name)),
    outputs: model.graph.outputs,
  };
  const found = new Findings();
  try {
    await examine(model, runtime, options, found);
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    found.problems.push(error.message);
  }
  const { problems, limits, ...rest } = found;
  const verdict: Verdict = problems.length > 0 ? "not trainable" : limits.length > 0 ? "ready with limits" : "ready";
  return { verdict, reasons: [...problems, ...limits], ...facts, ...rest };
}

/** What is known so far; an error on the way leaves it as it is. */
class Findings {
  readonly problems: string[] = [];
  readonly limits: string[] = [];
  readonly kinds: KindCheck[] = [];
  sites: readonly Site[] = [];
  sizes: InputSizes | null = null;
  unknownOperators: readonly MissingOperator[] = [];
  operatorsInTheWay: readonly MissingOperator[] = [];
  memory: MemoryEstimate | null = null;
  memorySizes: Readonly<Record<string, number>> = {};
  trained = "";
  step: StepTime | null = null;
}

async function examine(model: Model, runtime: Runtime, options: CheckModelOptions, found: Findings): Promise<void> {
  const prepared = prepareModel(model);
  found.unknownOperators = unknownOperators(prepared.graph);
  const run = await tryRunning(model, prepared, runtime, options, found);
  found.sizes = run.sizes;
  if (found.unknownOperators.length > 0) {
    found.problems.push(`the engine does not know ${listed(found.unknownOperators)}`);
    return;
  }
  found.sites = findSites(model);
  const names = model.graph.outputs.map((v) => v.name);
  const trainable = trainableSites(prepared.graph, found.sites, names);
  found.operatorsInTheWay = trainable.missing;
  for (const { input, reason } of undecidedBranches(prepared)) {
    const which = `which branch to train is not known, ${reason}: bind ${input} to true or false`;
    (found.sites.length === 0 ? found.problems : found.limits).push(which);
  }
  if (found.problems.length > 0) return;
  noteSites(found, trainable);
  if (found.problems.length > 0) return;
  estimateMemory(model, options, trainable, found);
  const timed = timedSizes(run.sizes, options, found.memory);
  for (const entry of methods) {
    const sites = trainable.sites.filter((site) => site.kind === entry.kind);
    if (sites.length === 0 || options.kinds?.includes(entry.kind) === false) continue;
    const { step, ...check } = await checkKind(model, {
      runtime,
      entry,
      sites,
      trainable,
      run,
      timed: found.step ? null : timed,
      options,
    });
    found.kinds.push(check);
    found.step ??= step;
  }
  judge(found, mergeTolerance(model));
}

/** Memory of training LoRA on the linear layers that can be trained; without one, the weights of the first kind there is. */
function estimateMemory(
  model: Model,
  { batch, tokens }: CheckModelOptions,
  { outputs, sites }: TrainableSites,
  found: Findings,
): void {
  const kind = methods.find((entry) => sites.some((site) => site.kind === entry.kind))?.kind ?? "linear";
  const targetModules = sites.filter((site) => site.kind === kind).map((site) => site.name);
  const own = kind === "linear" ? lora : full;
  const description = describeModel(model, {
    method: own as unknown as Method,
    config: { ...(kind === "linear" ? { r: 8 } : {}), targetModules },
    ...(batch === undefined ? {} : { batch }),
    ...(tokens === undefined ? {} : { tokens }),
    ...(outputs[0] === undefined ? {} : { wantedOutput: outputs[0] }),
  });
  found.memory = description.memory;
  found.memorySizes = description.symbolSizes;
  found.trained = kind === "linear" ? "LoRA of rank 8 on every linear layer" : `the weights of kind ${kind}`;
}

/** Sizes of a training step to time: those asked for, or the small ones of the check when that would take too much memory. */
function timedSizes(
  sizes: InputSizes,
  { batch = 8, tokens = 128 }: CheckModelOptions,
  memory: MemoryEstimate | null,
): InputSizes {
  if (memory && memory.totalBytes > freemem()) return sizes;
  return { ...sizes, batch, length: Math.max(tokens, sizes.length) };
}

/** Runs the file at sizes that it accepts, and notes sizes that are written into it. */
async function tryRunning(
  model: Model,
  prepared: Model,
  runtime: Runtime,
  options: CheckModelOptions,
  found: Findings,
): Promise<WorkingRun> {
  const runOf = async (candidate: Model): Promise<WorkingRun> => {
    const session = await openModel(runtime, candidate, options.threads);
    try {
      const subject = { session, graph: readGraph(model), fixed: chosenFeeds(model) };
      const run = await findWorkingRun(subject);
      const baked = await findBakedSizes(subject, run, isRounded(model));
      found.limits.push(...baked.map(({ reason }) => reason), ...fixedSizes(model));
      return run;
    } finally {
      await session.close();
    }
  };
  try {
    return await runOf(model);
  } catch (error) {
    // A fused operator may refuse sizes that its parts take (a head size, on this processor): training needs the parts only.
    if (prepared === model || !PeftError.isInstance(error)) throw error;
    const run = await runOf(prepared);
    found.limits.push(`the file itself does not run here, its plain form does: ${error.message}`);
    return run;
  }
}

const listed = (operators: readonly MissingOperator[]): string =>
  operators.map(({ operator, count, example }) => `${operator} (${count} x, first "${example}")`).join(", ");

/** Inputs whose batch or length the file fixes: it can be trained, in portions of that size. */
function fixedSizes({ graph }: Model): string[] {
  const fixed = graph.inputs.filter(
    ({ name, shape }) => !graph.initializers.has(name) && shape.length > 0 && typeof shape[0] === "number",
  );
  if (fixed.length === 0 || fixed.length < graph.inputs.filter((v) => v.shape.length > 0).length) return [];
  const shown = fixed.map(({ name, shape }) => `${name} [${shape.join(", ")}]`).join(", ");
  return [`the file fixes its sizes: every run takes ${shown}`];
}

function noteSites(found: Findings, { sites, blocked, missing, unreached }: TrainableSites): void {
  const total = found.sites.length;
  const why =
    missing.length > 0
      ? `lie behind ${listed(missing)}, which ${missing.length === 1 ? "has" : "have"} no gradient rule`
      : "have no derivative: nothing but indices, comparisons or sizes comes out of them";
  if (total === 0) {
    found.problems.push("it has no linear layer, convolution, norm or embedding with constant weights");
  } else if (sites.length === 0 && blocked.length === 0) {
    found.problems.push(`no floating-point output depends on any of its ${unreached.length} sites`);
  } else if (blocked.length > 0) {
    (sites.length === 0 ? found.problems : found.limits).push(`${blocked.length} of ${total} sites ${why}`);
  }
}

interface KindOptions {
  readonly runtime: Runtime;
  readonly entry: (typeof methods)[number];
  readonly sites: readonly Site[];
  readonly trainable: TrainableSites;
  readonly run: WorkingRun;
  readonly timed: InputSizes | null;
  readonly options: CheckModelOptions;
}

type TimedKindCheck = KindCheck & { readonly step: StepTime | null };

async function checkKind(
  model: Model,
  { runtime, entry, sites, trainable, run, timed, options }: KindOptions,
): Promise<TimedKindCheck> {
  const { kind, method, label } = entry;
  const { threads } = options;
  const config = { ...(kind === "linear" ? { r: 2 } : {}), targetModules: sites.map((site) => site.name) };
  const base = { kind, method: label, sites: sites.length };
  let checked: GradientCheck;
  try {
    const { outputs } = trainable;
    checked = await checkGradients(model, {
      runtime,
      method,
      config,
      sites,
      outputs,
      run,
      timed,
      threads,
      isRounded: isRounded(model),
    });
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    return { ...base, gradients: null, merged: null, problem: error.message, step: null };
  }
  const { agreement: gradients, step } = checked;
  try {
    const merged = await mergedDistance(model, runtime, checked, run, threads);
    return { ...base, gradients, merged, problem: null, step };
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    return { ...base, gradients, merged: null, problem: error.message, step };
  }
}

/** How far the outputs with the adapter written into the weights are from those with the adapter beside them. */
async function mergedDistance(
  model: Model,
  runtime: Runtime,
  { adapter, outputs }: GradientCheck,
  run: WorkingRun,
  threads: number | undefined,
): Promise<number> {
  const session = await openModel(runtime, mergeAdapter(model, adapter), threads);
  try {
    const result = await session.run(feedsFor(session, run.feeds), Object.keys(outputs));
    const distances = Object.entries(outputs).map(([name, expected]) =>
      relativeDistance(floatsOf(outputOf(result, name)), floatsOf(expected)),
    );
    return Math.max(...distances);
  } finally {
    await session.close();
  }
}

/** Linear layers decide, or what there is in their place; other kinds that fail are limits. */
function judge(found: Findings, tolerance: number): void {
  found.kinds.forEach((check, i) => {
    const list = i === 0 ? found.problems : found.limits;
    const { kind, gradients, merged, problem } = check;
    if (!gradients) list.push(`${kind} sites: ${problem}`);
    else if (gradients.inconclusive) {
      found.limits.push(
        `${kind} sites: gradients could not be verified, rounding hides them (${percent(Math.max(gradients.noise, gradients.error))})`,
      );
    } else if (!gradients.agrees) {
      list.push(`${kind} sites: gradients differ from finite differences by ${percent(gradients.error)}`);
    }
    if (!gradients) return;
    if (merged === null) found.limits.push(`${kind} sites: merging was refused: ${problem}`);
    else if (!(merged <= tolerance))
      found.limits.push(`${kind} sites: merged and unmerged outputs differ by ${percent(merged)}`);
  });
}

const percent = (x: number): string => `${(100 * x).toPrecision(2)} %`;
