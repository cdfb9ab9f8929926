import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createTensorFile,
  type Feeds,
  type Int8Event,
  type Int8Plan,
  int8Event,
  type Model,
  type PlanInt8Options,
  planInt8,
  planMicroBatches,
  type RuntimeTensor,
  type TrainOptionsInput,
} from "@onnx-peft/core";
import type { TextTask } from "./task.ts";

/** The calibration looks at so many samples at most, spread over the training data, in so many micro-batches. */
const SAMPLES = 64;
const RUNS = 4;

interface Int8PlanParts<Sample> extends Pick<PlanInt8Options, "build"> {
  readonly model: Model;
  readonly task: TextTask<Sample>;
  readonly samples: readonly Sample[];
  readonly options: TrainOptionsInput;
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  collate(samples: readonly Sample[]): Feeds;
}

/** A plan whose weights lie in a temporary file, which is removed with it. */
export interface TemporaryInt8Plan extends AsyncDisposable {
  readonly plan: Int8Plan;
  readonly event: Int8Event;
}

/** Quantises the frozen layers of a text model, calibrated on samples of its own training data. */
export async function textInt8Plan<Sample>(parts: Int8PlanParts<Sample>): Promise<TemporaryInt8Plan> {
  const { model, task, samples, options, parameters, collate, build } = parts;
  const every = Math.max(1, Math.floor(samples.length / SAMPLES));
  const chosen = samples.filter((_, i) => i % every === 0).slice(0, SAMPLES);
  const { runs } = planMicroBatches(
    chosen.map((sample) => task.lengthOf(sample)),
    { maxTokens: options.microBatchTokens ?? 512 },
  );
  // Runs are sorted by length: some of each.
  const step = Math.max(1, Math.ceil(runs.length / RUNS));
  const batches = runs
    .filter((_, k) => k % step === 0)
    .map((run) => collate(Array.from(run, (i) => chosen[i] as Sample)));
  const folder = await mkdtemp(join(tmpdir(), "onnx-peft-int8-"));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const file = createTensorFile(join(folder, "int8.weights"));
    const { isolation, threads } = options;
    const calibrated = await planInt8({
      ...{ model, build, batches, parameters, store: file.append },
      ...(isolation === undefined ? {} : { isolation }),
      ...(threads === undefined ? {} : { threads }),
    });
    file.close();
    return { plan: calibrated.plan, event: int8Event(calibrated), [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
