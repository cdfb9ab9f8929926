import { createHash } from "node:crypto";
import { initialParameters, parameterTensors } from "../../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter } from "../../adapters/inject.ts";
import type { AdapterConfigInput } from "../../adapters/select.ts";
import type { TargetConfig } from "../../adapters/targets.ts";
import { parseConfig } from "../../config/parse-config.ts";
import { splitStratified } from "../../data/split-stratified.ts";
import { PeftError } from "../../errors.ts";
import type { LossParts } from "../../losses/loss-parts.ts";
import type { LoraConfig } from "../../methods/lora.ts";
import type { Model } from "../../onnx/ir.ts";
import type { ParameterGroup } from "../../optim/optimizer-config.ts";
import { learningRateAt } from "../../optim/schedule.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { buildAdapterProgram } from "../adapter-program.ts";
import { batchCount } from "../batch-order.ts";
import { createBatches } from "../batches.ts";
import { createEngine } from "../engine.ts";
import { type FileEngine, withFiles } from "../engine-files.ts";
import { createEngineProcess } from "../engine-process.ts";
import { fingerprintOf } from "../fingerprint.ts";
import type { MemberStep } from "../member.ts";
import { type TrainOptionsInput, trainOptions } from "../options.ts";
import { LOSS_SUM, LOSS_WEIGHT } from "../output-names.ts";
import type { ProgramMember, TrainingProgram } from "../program.ts";
import type { TrainingData, TrainingRun } from "../training-run.ts";
import { GATES, gatedLora } from "./gated-lora.ts";
import { gatesOf, type ModuleTable, moduleTable, selectModules } from "./module-table.ts";
import { openSearchFolder, type SearchLook } from "./search-folder.ts";
import type { DifforaConfig, DifforaInput } from "./search-options.ts";
import { loraConfigFor, type StartTensor, startFrom } from "./search-result.ts";

export type { SearchLook } from "./search-folder.ts";

export interface ModuleSearch<Sample> {
  readonly model: Model;
  /** DiffoRA's options and the modules among which it searches. */
  readonly config: DifforaInput & TargetConfig;
  readonly wantedOutputs?: readonly string[];
  /** The task's loss of an adapted model. */
  readonly loss: (adapted: AdaptedGraph) => LossParts;
  /** The training samples: one part trains weights, the other judges gates. Samples for tests have no business here. */
  readonly data: TrainingData<Sample>;
  /** Class of a sample; both parts get the same shares. Default: a plain random split. */
  readonly classOf?: (sample: Sample) => string | number;
  /** Batch size, micro-batches, optimiser and schedule of the weights, seed, clipping, threads, device and isolation count. */
  readonly options: TrainOptionsInput;
  readonly groups?: (parameters: readonly string[]) => ParameterGroup[];
  /** Where the state goes at every look; an interrupted search in it goes on. */
  readonly folder?: string;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: SearchLook & { readonly type: "search"; readonly totalSteps: number }) => void;
}

export interface ModuleSearchResult {
  /** False when it was stopped by a signal; the folder has its state then. */
  readonly finished: boolean;
  /** Pairs of steps done. */
  readonly steps: number;
  /** All modules, with their gates. */
  readonly modules: readonly { readonly name: string; readonly gate: number }[];
  readonly table: ModuleTable;
  /** Paths of the kept modules, the largest gate first. */
  readonly selected: readonly string[];
  readonly history: readonly SearchLook[];
  /** The LoRA that is trained next: the kept modules by their full paths. */
  readonly config: AdapterConfigInput<LoraConfig>;
  /** Start values for it by tensor name, heads included; with weights "fresh" those of heads alone. */
  readonly start: ReadonlyMap<string, StartTensor>;
  /** Trained values of the search: all modules, and a logit each. */
  readonly searchedParameters: number;
}

/**
 * Searches the modules that deserve a LoRA (DiffoRA, Jiang, Wang and Yuan 2025, arXiv 2502.08905). Every module gets one, multiplied by a
 * gate; steps alternate between the weights, on one part of the training samples, and the gates, on the other (min over gates of the
 * validation loss at the weights that minimise the training loss); then the share `ratio` of the largest gates is kept. No code of the paper is public and
 * its text was not at hand beyond summaries: relaxation, alternation and discretisation follow DARTS.
 * Costs two training steps a step (order 2: five more); the kept LoRA costs what its modules do.
 *
 * @throws PeftError CONFIG_INVALID, NO_DATA, RESUME_MISMATCH; those of `injectAdapter` and engines
 * @example
 * const { selected, config, start } = await searchModules({ model, config: { searchSteps: 100, targetModules: "all-linear" }, loss, data, options });
 */
export async function searchModules<Sample>(search: ModuleSearch<Sample>): Promise<ModuleSearchResult> {
  const options = parseConfig(trainOptions, search.options, "training options");
  const adapted = injectAdapter(search.model, {
    method: gatedLora,
    config: search.config as AdapterConfigInput<DifforaConfig>,
    training: true,
    ...(search.wantedOutputs ? { wantedOutputs: search.wantedOutputs } : {}),
  });
  const config = adapted.config as unknown as DifforaConfig;
  const names = adapted.plans.filter((plan) => plan.method.type === gatedLora.type).map((plan) => plan.site.name);
  const training = inTurns(buildAdapterProgram(adapted, search.loss(adapted)));
  const values = initialParameters(adapted, options.seed);
  const parameters = parameterTensors(adapted.parameters, values);
  const weights = training.parameters.filter((name) => name !== GATES);
  const groups = search.groups?.(weights) ?? [];
  const batchesOf = alternatingBatches(search, { training, parameters, groups }, config);
  const engine = await openEngine({ training, parameters, groups }, options, config);
  try {
    const folder =
      search.folder === undefined
        ? null
        : await openSearchFolder(search.folder, await fingerprint(search, { training, parameters, groups }, config));
    const resumed = await folder?.load(engine);
    const history: SearchLook[] = [...(resumed?.history ?? [])];
    let step = resumed?.step ?? 0;
    const isStable = (): boolean => (history.at(-1)?.stable ?? 0) >= (config.stableFor ?? Number.POSITIVE_INFINITY);
    const clip = options.maxGradNorm === undefined ? {} : { maxGradNorm: options.maxGradNorm };
    let cancelled = false;
    while (step < config.searchSteps && !isStable()) {
      if (search.signal?.aborted) {
        cancelled = true;
        await folder?.save(engine, { step, history });
        break;
      }
      const scale = options.schedule ? learningRateAt(step, config.searchSteps, options.schedule) : 1;
      const { train, validation } = batchesOf(step);
      // Weights first: while B is zero, gates have no gradient.
      const turn = (member: string, k: number, runs: readonly Feeds[], own: Omit<MemberStep, "step">) => ({
        ...{ step: k, runs, ...own, members: { [member]: { step, ...own } } },
      });
      const inner = await engine.step(turn(WEIGHTS, 2 * step, train, { learningRateScale: scale, ...clip }));
      const rate = scale * options.optimizer.learningRate;
      const outer = await engine.step({
        ...turn(GATE, 2 * step + 1, validation, { learningRateScale: 1 }),
        ...(config.order === 2 ? { ahead: { member: WEIGHTS, runs: train, learningRate: rate } } : {}),
      });
      step++;
      if (step % config.evalSteps !== 0 && step < config.searchSteps) continue;
      const gates = await readGates(engine, names, config);
      const before = history.at(-1);
      const isSame = before !== undefined && sameOrder(names, before.gates, gates, config);
      const stable = isSame ? before.stable + 1 : 0;
      const look = { step, trainLoss: inner.loss, validationLoss: outer.loss, gates, stable };
      history.push(look);
      search.onEvent?.({ type: "search", ...look, totalSteps: config.searchSteps });
      await folder?.save(engine, { step, history });
    }
    const found = await engine.bestParameters();
    const gates = await readGates(engine, names, config);
    const selected = selectModules(names, gates, config);
    return {
      finished: !cancelled,
      steps: step,
      modules: names.map((name, i) => ({ name, gate: gates[i] ?? 0 })),
      table: moduleTable(names, gates),
      selected,
      history,
      config: loraConfigFor(search.config, config, selected),
      start: startFrom(found, names, gates, selected, config),
      searchedParameters: training.parameters.reduce((sum, name) => sum + (values.get(name)?.length ?? 0), 0),
    };
  } finally {
    await engine.close();
  }
}

/** The two that take turns: everything that is trained but the gates, and the gates. */
const [WEIGHTS, GATE] = ["weights", "gates"] as const;

/** The program's trained tensors as two members with one loss. */
export function inTurns(program: TrainingProgram): TrainingProgram {
  const { parameters, state } = program;
  const member = (own: readonly string[]): ProgramMember => ({
    ...{ parameters: own, state, lossSum: LOSS_SUM, lossWeight: LOSS_WEIGHT },
  });
  const isGate = (name: string): boolean => name === GATES;
  return {
    ...program,
    members: {
      [WEIGHTS]: member(parameters.filter((name) => !isGate(name))),
      [GATE]: member(parameters.filter(isGate)),
    },
  };
}

type Program = Pick<TrainingRun<unknown>, "training" | "parameters" | "groups">;

/** Batches of both parts of the samples for every step: functions of (seed, step). */
function alternatingBatches<Sample>(search: ModuleSearch<Sample>, program: Program, config: DifforaConfig) {
  const { data, classOf } = search;
  const options = parseConfig(trainOptions, search.options, "training options");
  const indices = Array.from({ length: data.samples.length }, (_, i) => i);
  const split = splitStratified(indices, {
    fractions: { train: 1 - config.valSplit, validation: config.valSplit },
    seed: `${options.seed}:diffora`,
    ...(classOf ? { by: (i: number) => classOf(data.samples[i] as Sample) } : {}),
  });
  const inputs = new Set(program.training.inputs.map((v) => v.name));
  const made = (part: readonly number[], prefix: string) => {
    if (part.length === 0)
      throw new PeftError("NO_DATA", "Expected samples for both parts of the search, received none for one.");
    const samples = part.map((i) => data.samples[i] as Sample);
    const own: TrainingData<Sample> = {
      ...{ ...data, samples },
      collate: (some, key) =>
        Object.fromEntries(Object.entries(data.collate(some, `${prefix}${key}`)).filter(([name]) => inputs.has(name))),
    };
    const run = { ...program, data: own, options: search.options } as TrainingRun<Sample>;
    const seed = `${options.seed}:${prefix}`;
    return createBatches(run, { ...options, seed }, batchCount(samples.length, options.batchSize));
  };
  const [train, validation] = [made(split.train, "weights."), made(split.validation, "gates.")];
  return (step: number) => ({ train: train(step).runs, validation: validation(step).runs });
}

async function openEngine(
  program: Program,
  options: ReturnType<typeof trainOptions.parse>,
  config: DifforaConfig,
): Promise<FileEngine> {
  const { gateLearningRate: learningRate, gateWeightDecay: weightDecay, gateBetas: betas } = config;
  const { training, parameters, groups = [] } = program;
  const { optimizer, seed } = options;
  const totalSteps = config.searchSteps;
  const setup = {
    ...{ training, parameters, seed },
    members: {
      [WEIGHTS]: { optimizer, groups, seed, totalSteps },
      [GATE]: { optimizer: { type: "adamw" as const, learningRate, weightDecay, betas }, seed, totalSteps },
    },
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    device: options.device,
  };
  return options.isolation === "inline"
    ? withFiles(await createEngine(onnxruntimeNode, setup))
    : createEngineProcess(setup);
}

async function fingerprint<Sample>(
  search: ModuleSearch<Sample>,
  program: Program,
  config: DifforaConfig,
): Promise<string> {
  const options = parseConfig(trainOptions, search.options, "training options");
  const run = { ...program, data: search.data, options: search.options } as TrainingRun<Sample>;
  const all = { ...(await fingerprintOf(run, options)), search: config };
  return createHash("sha256").update(JSON.stringify(all)).digest("hex");
}

async function readGates(engine: FileEngine, names: readonly string[], config: DifforaConfig): Promise<number[]> {
  const logits = (await engine.bestParameters())[GATES]?.data;
  return gatesOf(names, (logits ?? new Float32Array()) as Float32Array, config.relaxation);
}

const sameOrder = (
  names: readonly string[],
  before: readonly number[],
  now: readonly number[],
  config: DifforaConfig,
): boolean => selectModules(names, before, config).join("\n") === selectModules(names, now, config).join("\n");
