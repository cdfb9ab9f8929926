import {
  type AdaptedGraph,
  type Adapter,
  type AdapterConfigInput,
  adapterOf,
  adapterValues,
  alignWeights,
  at,
  buildAdapterProgram,
  buildEvaluationProgram,
  type EvaluationProgram,
  type Feeds,
  initialParameters,
  injectAdapter,
  type LoraConfig,
  lora,
  type Method,
  type Model,
  type ParameterGroup,
  PeftError,
  type Penalty,
  parameterTensors,
  type RuntimeTensor,
  requireInt8Device,
  type StartTensor,
  type TargetConfig,
  type TrainEvent,
  type TrainingResult,
  type TrainOptionsInput,
  train,
  trainedCount,
} from "@onnx-peft/core";
import type { TextModel } from "../models/load-text-model.ts";
import { padIdOf } from "../models/text-inputs.ts";
import { checkSamples } from "./check-samples.ts";
import { type StartDataOptions, textStart } from "./data-start.ts";
import { textInt8Plan } from "./int8-plan.ts";
import { createPredictor, type Predictor } from "./predictor.ts";
import { evaluateTask, feedsFor, PREDICTION } from "./run-task.ts";
import type { TextTask } from "./task.ts";
import { taskGraph, taskOutput } from "./task-graph.ts";

/** What {@link fineTune} needs to know. */
export interface FineTuneOptions<Sample, C extends object = LoraConfig> {
  readonly model: TextModel;
  readonly task: TextTask<Sample>;
  readonly train: readonly Sample[];
  /** Judges the best checkpoint; without it the last one is the result. */
  readonly validation?: readonly Sample[];
  /** Default LoRA. */
  readonly method?: Method<C>;
  /** The method's options and which modules it adapts. Heads are trained as a whole in any case. */
  readonly adapter: AdapterConfigInput<C>;
  readonly options: TrainOptionsInput;
  /**
   * Arithmetic of the frozen linear layers while training. "int8" rounds their inputs and weights to 8 bits, forward and
   * backward, several times faster on processors with VNNI or AMX; a short calibration keeps layers in float32 that would
   * be too inaccurate (the "int8" event names them). Evaluation and the result stay what the file is: float32 for a float32
   * file. Default "float32".
   */
  readonly compute?: "float32" | "int8";
  /**
   * Which samples a start is made from, where the adapter's options ask for one from data (LoRA's "eva", "lora_ga" and "corda", QWHA's "quantization"). It is made before
   * training, with "calibration" events, and kept in `folder`.
   */
  readonly startData?: StartDataOptions;
  /** The model that `model` was quantised from, for QWHA's start "quantization". */
  readonly original?: Model;
  /** Terms of the training loss beside the task's and the method's own, such as `densityPenalty()`. */
  readonly penalties?: readonly Penalty[];
  /** Learning rate and weight decay of named parameters, from the names of all trained ones. */
  readonly groups?: (parameters: readonly string[]) => ParameterGroup[];
  /** Values that trained tensors begin with, by name; default those of a new adapter. */
  readonly start?: ReadonlyMap<string, StartTensor>;
  /** Id of the padding token; default the config's pad_token_id. */
  readonly padId?: number;
  /** Where checkpoints go; an interrupted run in it goes on. */
  readonly folder?: string;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainEvent) => void;
}

/** A trained adapter over its model. Close it to end the process that holds the model. */
export interface FineTuned<Sample> extends Predictor<Sample> {
  readonly model: TextModel;
  readonly task: TextTask<Sample>;
  readonly adapter: Adapter;
  /** Values that were trained. */
  readonly trainableParameters: number;
  readonly training: TrainingResult;
}

/**
 * Fine-tunes a text encoder with an adapter, in a process of its own. The base model's weights stay where they are. The
 * task's head (every module whose name ends in "classifier" or "score", as with peft's task types) and modules that the
 * checkpoint lacked are trained as a whole beside the adapter.
 * @throws PeftError NO_DATA, TASK_SAMPLE naming the samples that do not fit, CONFIG_INVALID, and those of `injectAdapter` and `train`
 * @example
 * const tuned = await fineTune({ model, task, train: samples, adapter: { r: 8, targetModules: ["query", "value"] },
 *   options: { epochs: 3, optimizer: { type: "adamw", learningRate: 1e-3 } } });
 */
export async function fineTune<Sample, C extends object = LoraConfig>(
  run: FineTuneOptions<Sample, C>,
): Promise<FineTuned<Sample>> {
  const { model, task, validation, padId = padIdOf(model.config) } = run;
  checkSamples(task, run.train, model.config, { name: "training", judged: true });
  if (validation) checkSamples(task, validation, model.config, { name: "validation", judged: true });
  if (run.compute === "int8" && (run.options.prefixCache ?? "off") !== "off") {
    throw new PeftError("CONFIG_INVALID", 'expected compute "float32" beside prefixCache, received "int8".', {
      hint: "Products in 8 bits share one scale over a batch: activations of a sample are others in every epoch.",
    });
  }
  if (run.compute === "int8") requireInt8Device(run.options.device);
  const method = run.method ?? (lora as unknown as Method<C>);
  const asked = withHead(run.adapter, task, model.initialized);
  const wantedOutputs = [taskOutput(model.model.graph.outputs, task.head).name];
  const collateTo = (names: ReadonlySet<string> | null, samples: readonly Sample[]): Feeds => {
    const inputs = task.inputs(samples, padId);
    const feeds = { ...inputs, ...task.labels(samples, at(inputs.input_ids.dims, 1)) };
    return names ? feedsFor(names, feeds) : feeds;
  };
  const start = await textStart({
    ...{ model: model.model, method, config: asked, wantedOutputs, task, samples: run.train, options: run.options },
    collate: (samples) => collateTo(null, samples),
    data: run.startData ?? {},
    ...(run.original ? { original: run.original } : {}),
    ...(run.folder === undefined ? {} : { folder: run.folder }),
    ...(run.signal ? { signal: run.signal } : {}),
    ...(run.onEvent ? { onEvent: run.onEvent } : {}),
  });
  const config = start?.config ?? asked;
  // Weights for 8-bit products lie in a file of their own, and graphs may point into one folder only.
  const isFloat = run.compute !== "int8";
  await using weights = isFloat ? await alignWeights(model.model, run.folder) : null;
  const base = weights?.model ?? model.model;
  const training = injectAdapter(base, { method, config, wantedOutputs, training: true });
  const loss = task.loss(taskGraph(training, task.head));
  const parameters = beginning(startValues(training, run.options.seed ?? 42, start?.values), run.start);
  await using int8 =
    run.compute === "int8"
      ? await textInt8Plan({
          ...{ model: model.model, task, samples: run.train, options: run.options, parameters },
          collate: (samples) => collateTo(null, samples),
          build() {
            const { g, outputs } = injectAdapter(model.model, { method, config, wantedOutputs });
            return { g, loss: task.loss(taskGraph({ g, outputs }, task.head)).sum };
          },
        })
      : null;
  if (int8) run.onEvent?.(int8.event);
  const program = buildAdapterProgram(training, loss, {
    ...(int8 ? { int8: int8.plan } : {}),
    ...(run.penalties ? { penalties: run.penalties } : {}),
  });
  const evaluationOf = (from: Model): EvaluationProgram => {
    const evaluation = injectAdapter(from, { method, config, wantedOutputs });
    const prediction = task.prediction(taskGraph(evaluation, task.head));
    return buildEvaluationProgram(evaluation.g, { [PREDICTION]: prediction }, adapterValues(evaluation));
  };
  const evaluationProgram = evaluationOf(base);
  const inputNames = new Set(program.inputs.map((v) => v.name));
  const options = { metricForBest: task.mainMetric, greaterIsBetter: true, ...run.options };
  const judged = { task, padId, inputNames: new Set(evaluationProgram.inputs.map((v) => v.name)) };
  const result = await train<Sample>({
    training: program,
    ...(validation
      ? {
          evaluation: evaluationProgram,
          evaluate: (forward) => evaluateTask({ ...judged, run: forward }, validation),
        }
      : {}),
    parameters,
    groups: run.groups?.(program.parameters) ?? [],
    data: {
      samples: run.train,
      lengthOf: (sample) => task.lengthOf(sample),
      rowLengthsOf: (sample) => task.textsOf(sample).map(({ inputIds }) => inputIds.length),
      collate: (samples) => collateTo(inputNames, samples),
    },
    options,
    ...(run.folder === undefined ? {} : { folder: run.folder }),
    ...(run.signal ? { signal: run.signal } : {}),
    ...(run.onEvent ? { onEvent: run.onEvent } : {}),
  });
  const trained = adapterOf(training, new Map(Object.entries(result.parameters)));
  return {
    model,
    task,
    adapter: trained,
    trainableParameters: trainedCount(training, trained),
    training: result,
    ...createPredictor({
      task,
      config: model.config,
      padId,
      // The aligned weights are gone when the predictor opens its graph.
      program: base === model.model ? evaluationProgram : evaluationOf(model.model),
      parameters: result.parameters,
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.device === undefined ? {} : { device: options.device }),
      ...(options.isolation === undefined ? {} : { isolation: options.isolation }),
    }),
  };
}

/**
 * Start values of an adapted graph's parameters, as an engine takes them.
 * @param made those that `calibrateStart` made
 */
export function startValues(
  adapted: AdaptedGraph,
  seed: number | string,
  made?: ReadonlyMap<string, Float32Array>,
): Record<string, RuntimeTensor> {
  return parameterTensors(adapted.parameters, initialParameters(adapted, seed, made));
}

/** @throws PeftError PARAMETER for tensors that the adapter does not have, or of another shape */
function beginning(
  values: Record<string, RuntimeTensor>,
  start: ReadonlyMap<string, StartTensor> = new Map(),
): Record<string, RuntimeTensor> {
  for (const [name, { dims }] of start) {
    if (values[name]?.dims.join() === dims.join()) continue;
    const expected = values[name] ? `[${values[name].dims.join(", ")}]` : "no such tensor";
    throw new PeftError("PARAMETER", `Expected ${expected} as the start of "${name}", received [${dims.join(", ")}].`);
  }
  const given = [...start].map(([name, { dims, data }]) => [name, { type: "float32", dims, data }] as const);
  return { ...values, ...Object.fromEntries(given) };
}

/** What peft calls the tasks. With a task type it trains the head, and refuses an adapter whose file lacks it. */
export const peftTaskTypes = {
  "sequence-classification": "SEQ_CLS",
  "token-classification": "TOKEN_CLS",
  "sentence-embedding": "FEATURE_EXTRACTION",
} as const;

/** Modules that a task type covers, as the first or a later part of a path: DistilBERT's "pre_classifier" too. */
const coveredByTaskType = (module: string): boolean =>
  module.split(".").some((part) => /(classifier|score)$/.test(part));

/** The head and new modules are always trained, beside what the caller asks for. */
export function withHead<Config extends Pick<TargetConfig, "modulesToSave">, Sample>(
  config: Config,
  task: TextTask<Sample>,
  initialized: readonly string[],
): Config & Pick<TargetConfig, "modulesToSave" | "taskType"> {
  const others = initialized.filter((name) => !coveredByTaskType(name));
  const modulesToSave = [...new Set([...(config.modulesToSave ?? []), ...others])];
  return { ...config, taskType: peftTaskTypes[task.type], ...(modulesToSave.length === 0 ? {} : { modulesToSave }) };
}
