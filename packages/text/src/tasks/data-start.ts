import {
  type AdapterConfigInput,
  type CalibratedStart,
  type CalibrateStartOptions,
  calibrateStart,
  type Feeds,
  type Method,
  type Model,
  planMicroBatches,
  startNeedsData,
  type TrainOptionsInput,
} from "@onnx-peft/core";
import type { TextTask } from "./task.ts";
import { taskGraph } from "./task-graph.ts";

/** What a start that is made from data sees. */
export interface StartDataOptions {
  /** Samples, spread evenly over the training data. Default 256. */
  readonly samples?: number;
  /** Padded tokens of one batch; default those of a micro-batch. 1 makes every sample a batch without padding. */
  readonly batchTokens?: number;
}

const SAMPLES = 256;

interface DataStartParts<Sample, C extends object>
  extends Pick<CalibrateStartOptions<C>, "wantedOutputs" | "original" | "folder" | "signal" | "onEvent"> {
  readonly model: Model;
  readonly method: Method<C>;
  readonly config: AdapterConfigInput<C>;
  readonly task: TextTask<Sample>;
  readonly samples: readonly Sample[];
  readonly options: TrainOptionsInput;
  readonly data: StartDataOptions;
  collate(samples: readonly Sample[]): Feeds;
}

/** The start of an adapter whose options ask for data, made from training samples; null for all others. */
export async function textStart<Sample, C extends object>(
  parts: DataStartParts<Sample, C>,
): Promise<CalibratedStart<C> | null> {
  const { model, method, config, task, samples, options, data, collate, ...rest } = parts;
  if (!startNeedsData(method, config)) return null;
  const every = Math.max(1, Math.floor(samples.length / (data.samples ?? SAMPLES)));
  const chosen = samples.filter((_, i) => i % every === 0).slice(0, data.samples ?? SAMPLES);
  const { runs } = planMicroBatches(
    chosen.map((sample) => task.lengthOf(sample)),
    { maxTokens: data.batchTokens ?? options.microBatchTokens ?? 512 },
  );
  const { isolation, threads, device, seed } = options;
  return calibrateStart(model, {
    ...rest,
    method,
    config,
    *batches() {
      for (const run of runs) yield collate(Array.from(run, (i) => chosen[i] as Sample));
    },
    loss: (adapted) => task.loss(taskGraph(adapted, task.head)),
    ...(isolation === undefined ? {} : { isolation }),
    ...(threads === undefined ? {} : { threads }),
    ...(device === undefined ? {} : { device }),
    ...(seed === undefined ? {} : { seed }),
  });
}
