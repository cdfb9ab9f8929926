import {
  type Adapter,
  applyAdapter,
  buildEvaluationProgram,
  createEngine,
  createEngineProcess,
  type Device,
  type EvaluationProgram,
  importGraph,
  type Metrics,
  onnxruntimeNode,
  type RuntimeTensor,
} from "@onnx-peft/core";
import { opsetOf } from "../models/attach-head.ts";
import type { TextModel } from "../models/load-text-model.ts";
import { padIdOf } from "../models/text-inputs.ts";
import { checkSamples } from "./check-samples.ts";
import { evaluateTask, PREDICTION, predictAll, type TaskRun } from "./run-task.ts";
import type { BatchPrediction, TextTask } from "./task.ts";
import { taskGraph } from "./task-graph.ts";

/** A model that predicts. The process with its weights starts at the first call and ends with `close`. */
export interface Predictor<Sample> extends AsyncDisposable {
  /** Outputs of all samples, batch by batch; {@link predictionRows} puts them in the order of the samples. */
  predict(samples: readonly Sample[]): Promise<BatchPrediction[]>;
  /** The task's metrics. @throws PeftError NO_DATA, TASK_SAMPLE */
  evaluate(samples: readonly Sample[]): Promise<Metrics>;
  close(): Promise<void>;
}

export interface EngineOptions {
  /** Threads of the engine; default: its own choice. */
  readonly threads?: number;
  /** Default "cpu". */
  readonly device?: Device;
  /** "process" (default) keeps the caller's event loop free; "inline" runs in the calling thread. */
  readonly isolation?: "process" | "inline";
}

interface PredictorParts<Sample> extends EngineOptions {
  readonly task: TextTask<Sample>;
  readonly config: TextModel["config"];
  readonly padId: number;
  readonly program: EvaluationProgram;
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
}

/** A predictor over an evaluation program. */
export function createPredictor<Sample>(parts: PredictorParts<Sample>): Predictor<Sample> {
  const { task, config, padId, program, parameters, threads, device = "cpu", isolation = "process" } = parts;
  const setup = { evaluation: program, parameters, seed: 0, device, ...(threads === undefined ? {} : { threads }) };
  const start = async () =>
    isolation === "inline" ? createEngine(onnxruntimeNode, setup) : createEngineProcess(setup);
  let engine: ReturnType<typeof start> | undefined;
  const taskRun: TaskRun<Sample> = {
    task,
    padId,
    inputNames: new Set(program.inputs.map((v) => v.name)),
    async run(feeds) {
      engine ??= start();
      return (await engine).evaluate(feeds);
    },
  };
  const close = async (): Promise<void> => {
    // An engine that did not open was reported by the call that asked for it.
    const opened = await engine?.catch(() => null);
    await opened?.close();
  };
  return {
    async predict(samples) {
      checkSamples(task, samples, config, { name: "given", judged: false });
      return predictAll(taskRun, samples);
    },
    async evaluate(samples) {
      checkSamples(task, samples, config, { name: "given", judged: true });
      return evaluateTask(taskRun, samples);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/**
 * Predictions of a model as it is, or with an adapter that was saved: what it did before it was fine-tuned, or what it
 * learned in an earlier run. The adapter is merged into a copy of the weights it changes.
 * @throws PeftError ADAPTER_MISMATCH, NO_DELTA, TASK_GRAPH
 * @example
 * const adapter = fromPeft(await readPeftFolder("out/adapter"));
 * const predictor = openPredictor({ model, task, adapter });
 * console.log(await predictor.evaluate(samples));
 * await predictor.close();
 */
export function openPredictor<Sample>(
  options: {
    readonly model: TextModel;
    readonly task: TextTask<Sample>;
    readonly adapter?: Adapter;
    /** Id of the padding token; default the config's pad_token_id. */
    readonly padId?: number;
  } & EngineOptions,
): Predictor<Sample> {
  const { model, task, adapter, padId = padIdOf(model.config), ...engine } = options;
  const adapted = adapter ? applyAdapter(model.model, adapter) : model.model;
  const g = importGraph(adapted.graph, opsetOf(adapted));
  const outputs = new Map(adapted.graph.outputs.map(({ name }) => [name, g.value(name)]));
  const program = buildEvaluationProgram(
    g,
    { [PREDICTION]: task.prediction(taskGraph({ g, outputs }, task.head)) },
    [],
  );
  return createPredictor({ task, config: model.config, padId, program, parameters: {}, ...engine });
}
