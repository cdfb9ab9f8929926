import {
  type AdaptedGraph,
  type Adapter,
  type AdapterConfigInput,
  adapterOf,
  at,
  buildEvaluationProgram,
  buildTrainingProgram,
  createEngineProcess,
  type EvaluationProgram,
  initialParameters,
  injectAdapter,
  type LoraConfig,
  lora,
  type Method,
  type Metrics,
  type ParameterGroup,
  PeftError,
  type RuntimeTensor,
  type TrainEvent,
  type TrainingResult,
  type TrainOptionsInput,
  train,
  trainableValues,
} from "@onnx-peft/core";
import type { TextModel } from "../models/load-text-model.ts";
import { evaluateTask, feedsFor, PREDICTION, predictAll } from "./run-task.ts";
import type { BatchPrediction, TaskGraph, TextTask } from "./task.ts";

export interface FineTuneOptions<Sample, C extends object = LoraConfig> {
  readonly model: TextModel;
  readonly task: TextTask<Sample>;
  readonly train: readonly Sample[];
  /** Judges the best checkpoint; without it the last one is the result. */
  readonly validation?: readonly Sample[];
  /** Default LoRA. */
  readonly method?: Method<C>;
  /** The method's options and which modules it adapts. New heads are trained as a whole in any case. */
  readonly adapter: AdapterConfigInput<C>;
  readonly options: TrainOptionsInput;
  /** Learning rate and weight decay of named parameters, from the names of all trained ones. */
  readonly groups?: (parameters: readonly string[]) => ParameterGroup[];
  /** Id of the padding token; default 0. */
  readonly padId?: number;
  /** Where checkpoints go; an interrupted run in it goes on. */
  readonly folder?: string;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TrainEvent) => void;
}

/** A trained adapter over its model. Close it to end the process that holds the model. */
export interface FineTuned<Sample> {
  readonly model: TextModel;
  readonly task: TextTask<Sample>;
  readonly adapter: Adapter;
  /** Values that were trained. */
  readonly trainableParameters: number;
  readonly training: TrainingResult;
  predict(samples: readonly Sample[]): Promise<BatchPrediction[]>;
  evaluate(samples: readonly Sample[]): Promise<Metrics>;
  close(): Promise<void>;
}

/**
 * Fine-tunes a text encoder with an adapter, in a process of its own. The base model's weights stay where they are.
 * @throws PeftError as `injectAdapter` and `train`
 * @example
 * const tuned = await fineTune({ model, task, train: samples, adapter: { r: 8, targetModules: ["query", "value"] },
 *   options: { epochs: 3, optimizer: { type: "adamw", learningRate: 1e-3 } } });
 */
export async function fineTune<Sample, C extends object = LoraConfig>(
  run: FineTuneOptions<Sample, C>,
): Promise<FineTuned<Sample>> {
  const { model, task, padId = 0 } = run;
  const method = run.method ?? (lora as unknown as Method<C>);
  const config = withHead(run.adapter, model.initialized);
  const training = injectAdapter(model.model, { method, config, training: true });
  const loss = task.loss(taskGraph(training));
  const trained = trainableValues(training);
  const program = buildTrainingProgram(training.g, loss, trained);
  const evaluation = injectAdapter(model.model, { method, config });
  const evaluationProgram = buildEvaluationProgram(
    evaluation.g,
    { [PREDICTION]: task.prediction(taskGraph(evaluation)) },
    trainableValues(evaluation),
  );
  const trainingNames = new Set(program.inputs.map((v) => v.name));
  const evaluationNames = new Set(evaluationProgram.inputs.map((v) => v.name));
  const options = { metricForBest: task.mainMetric, greaterIsBetter: true, ...run.options };
  const { validation } = run;
  const result = await train<Sample>({
    training: program,
    ...(validation
      ? {
          evaluation: evaluationProgram,
          evaluate: (forward) => evaluateTask(task, validation, padId, evaluationNames, forward),
        }
      : {}),
    parameters: startValues(training, options.seed ?? 42),
    groups: run.groups?.(program.parameters) ?? [],
    data: {
      samples: run.train,
      lengthOf: (sample) => task.lengthOf(sample),
      collate(samples) {
        const inputs = task.inputs(samples, padId);
        return feedsFor(trainingNames, { ...inputs, ...task.labels(samples, at(inputs.input_ids.dims, 1)) });
      },
    },
    options,
    ...(run.folder === undefined ? {} : { folder: run.folder }),
    ...(run.signal ? { signal: run.signal } : {}),
    ...(run.onEvent ? { onEvent: run.onEvent } : {}),
  });
  const values = new Map(Object.entries(result.parameters).map(([name, { data }]) => [name, data as Float32Array]));
  return {
    model,
    task,
    adapter: adapterOf(training, values),
    trainableParameters: [...values.values()].reduce((sum, data) => sum + data.length, 0),
    training: result,
    ...predictor(task, padId, evaluationProgram, evaluationNames, result),
  };
}

/** Output and mask of an adapted encoder, as tasks want them. */
export function taskGraph({ g, outputs }: Pick<AdaptedGraph, "g" | "outputs">): TaskGraph {
  const output = outputs.get("logits") ?? outputs.get("last_hidden_state") ?? outputs.values().next().value;
  if (!output) throw new PeftError("TASK_GRAPH", "The model has no output.");
  return { g, output, attentionMask: g.value("attention_mask") };
}

/** Start values of an adapted graph's parameters, as an engine takes them. */
export function startValues(adapted: AdaptedGraph, seed: number | string): Record<string, RuntimeTensor> {
  const values = initialParameters(adapted, seed);
  return Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32", dims: shape, data: values.get(name) ?? new Float32Array() },
    ]),
  );
}

/** New modules start from random values, so they are always trained, beside what the caller asks for. */
function withHead<C extends object>(
  config: AdapterConfigInput<C>,
  initialized: readonly string[],
): AdapterConfigInput<C> {
  const modulesToSave = [...new Set([...(config.modulesToSave ?? []), ...initialized])];
  return modulesToSave.length === 0 ? config : { ...config, modulesToSave };
}

/** Opens the evaluation graph at the first call. */
function predictor<Sample>(
  task: TextTask<Sample>,
  padId: number,
  evaluation: EvaluationProgram,
  names: ReadonlySet<string>,
  { parameters }: TrainingResult,
): Pick<FineTuned<Sample>, "predict" | "evaluate" | "close"> {
  let engine: ReturnType<typeof createEngineProcess> | undefined;
  const open = (): ReturnType<typeof createEngineProcess> => {
    engine ??= createEngineProcess({ evaluation, parameters, seed: 0 });
    return engine;
  };
  return {
    async predict(samples) {
      const opened = await open();
      return predictAll(task, samples, padId, names, (feeds) => opened.evaluate(feeds));
    },
    async evaluate(samples) {
      const opened = await open();
      return evaluateTask(task, samples, padId, names, (feeds) => opened.evaluate(feeds));
    },
    async close() {
      await (await engine)?.close();
    },
  };
}
