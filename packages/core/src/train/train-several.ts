import type { z } from "zod";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { checkMemory, memoryLimit } from "./check-memory.ts";
import { createEngine } from "./engine.ts";
import { type FileEngine, withFiles } from "./engine-files.ts";
import { createEngineProcess } from "./engine-process.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { joinFeeds, type Padding } from "./join-feeds.ts";
import type { MemberSetup } from "./member.ts";
import { type TrainOptions, trainOptions } from "./options.ts";
import type { TrainingProgram } from "./program.ts";
import { runSizes } from "./run-sizes.ts";
import { openSeveralFolder } from "./several-folder.ts";
import { segmentFeeds, shareEngine } from "./shared-engine.ts";
import { trainedProgram } from "./trained-program.ts";
import { stepCounts, type TrainEvent, type TrainingData, type TrainingResult, trainOver } from "./trainer.ts";
import type { TrainingRun } from "./training-run.ts";

/** Options that the trainings share, because their steps are made in one graph. */
const sharedFields = {
  microBatchTokens: true,
  recompute: true,
  availableMemory: true,
  threads: true,
  device: true,
  isolation: true,
  saveSteps: true,
} as const;

/** Options of all trainings together. `microBatchTokens` is what one run sees of all of them; checkpoints are of all at once. */
export const severalOptions = trainOptions.pick(sharedFields).extend({
  /** Of the dropout masks. */
  seed: trainOptions.shape.seed,
});

/** Options of one of them: those of {@link train} but for the shared ones and the cache of activations. */
export const memberOptions = trainOptions.omit({ ...sharedFields, prefixCache: true, prefixDropout: true });

/** One of several trainings: its own data, optimiser, schedule, seed, evaluations and end. */
export interface SeveralTraining<Sample> extends Pick<TrainingRun<Sample>, "groups" | "evaluate"> {
  readonly data: TrainingData<Sample>;
  readonly options: z.input<typeof memberOptions>;
}

export interface SeveralRun<Sample> extends Pick<TrainingRun<Sample>, "evaluation" | "folder" | "signal"> {
  /** Of {@link buildSeveralProgram}. */
  readonly training: TrainingProgram;
  /** Start values of all adapters. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  /** One training for each adapter of the program. */
  readonly members: Readonly<Record<string, SeveralTraining<Sample>>>;
  readonly options?: z.input<typeof severalOptions>;
  /** Value of inputs where rows of one adapter are shorter than those of another: { input_ids: 0, labels: -100 }. */
  readonly padding?: Padding;
  readonly onEvent?: (event: TrainEvent & { readonly member: string }) => void;
}

/**
 * Trains several adapters at once over one frozen model: their batches run through it as one, each on rows of its own. Every
 * adapter's losses, updates and result are those of a training of its own (up to the rounding of sums); without dropout, that is,
 * since masks are drawn for all rows together. Each may have its own method, data, optimiser, schedule, number of steps,
 * evaluations and early stopping. With a `folder`, an interrupted run is continued exactly.
 *
 * @throws PeftError as {@link train}; ADAPTER_NAME when members and program do not fit, PADDING_UNKNOWN
 * @example
 * const results = await trainSeveral({ training, parameters, members: {
 *   low: { data, options: { optimizer: { type: "adamw", learningRate: 1e-4 } } },
 *   high: { data, options: { optimizer: { type: "adamw", learningRate: 1e-3 } } },
 * } });
 * results.high.losses;
 */
export async function trainSeveral<Sample>(run: SeveralRun<Sample>): Promise<Record<string, TrainingResult>> {
  const options = parseConfig(severalOptions, run.options ?? {}, "options of several trainings");
  const trainings = memberRuns(run, options);
  const limit = memoryLimit(options);
  if (limit !== null) {
    const together = unitedRun(run, trainings, options);
    await checkMemory(together, parseConfig(trainOptions, together.options, "training options"), limit);
  }
  const engine = await openSeveralEngine(run, options, trainings);
  try {
    const folder = run.folder === undefined ? null : await openSeveralFolder(run.folder, engine);
    const stop = new AbortController();
    const shared = shareEngine({
      engine,
      members: new Map([...trainings].map(([name, { parameters }]) => [name, Object.keys(parameters)])),
      padding: run.padding ?? {},
      batchInput: batchInput(run.training),
      commit: async () => folder?.commit(),
      // All see it at the same step.
      beforeStep: () => run.signal?.aborted && stop.abort(),
    });
    if (run.signal?.aborted) stop.abort();
    const results = [...trainings].map(async ([name, one]): Promise<[string, TrainingResult]> => {
      const own = shared.member(name);
      try {
        const result = await trainOver(
          { ...one, signal: stop.signal },
          {
            openFolder: async (parsed) =>
              folder?.member(name, await fingerprintOf(one, parsed), () => shared.checkpoint(name)) ?? null,
            openEngine: async () => own,
          },
        );
        return [name, result];
      } catch (error) {
        shared.fail(error);
        throw error;
      }
    });
    const settled = await Promise.allSettled(results);
    const bad = settled.find((one) => one.status === "rejected");
    if (bad) throw bad.reason;
    return Object.fromEntries(settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])));
  } finally {
    await engine.close();
  }
}

type SharedOptions = z.output<typeof severalOptions>;

/** An input of the program that is not made by this module; its first axis is the batch. @throws PeftError BATCH_UNKNOWN */
function batchInput({ inputs }: TrainingProgram): string {
  const input = inputs.find(({ name }) => !name.startsWith("adapter_rows."));
  if (!input) throw new PeftError("BATCH_UNKNOWN", "The program has no input whose rows could be counted.");
  return input.name;
}

/** Every training as a run of its own. @throws PeftError ADAPTER_NAME, CONFIG_INVALID, NO_DATA */
function memberRuns<Sample>(run: SeveralRun<Sample>, options: SharedOptions): Map<string, TrainingRun<Sample>> {
  const parts = run.training.members ?? {};
  const [expected, received] = [Object.keys(parts), Object.keys(run.members)];
  if (expected.length === 0 || [...expected].sort().join("\n") !== [...received].sort().join("\n")) {
    throw new PeftError(
      "ADAPTER_NAME",
      `Expected trainings of [${expected.join(", ")}], the adapters of the program, received [${received.join(", ")}].`,
      { hint: "Build the program with buildSeveralProgram." },
    );
  }
  const parsed = new Map(
    expected.map((name) => {
      const own = run.members[name] as SeveralTraining<Sample>;
      return [name, { own, options: parseConfig(memberOptions, own.options, `options of "${name}"`) }] as const;
    }),
  );
  const epochs = [...parsed.values()].map((one) => stepCounts(one.own.data.samples.length, one.options).stepsPerEpoch);
  const inOneGraph: Partial<TrainOptions> = {
    microBatchTokens: Math.max(1, Math.floor(runSizes(options).maxTokens / expected.length)),
    recompute: options.recompute,
    isolation: options.isolation,
    device: options.device,
    availableMemory: "unlimited",
    saveSteps: options.saveSteps ?? Math.max(1, Math.min(...epochs)),
  };
  return new Map(
    [...parsed].map(([name, one]): [string, TrainingRun<Sample>] => {
      const part = parts[name];
      const own = new Set([...(part?.parameters ?? []), ...(part?.state ?? [])]);
      const { onEvent } = run;
      return [
        name,
        {
          training: run.training,
          ...(run.evaluation ? { evaluation: run.evaluation } : {}),
          parameters: Object.fromEntries(Object.entries(run.parameters).filter(([tensor]) => own.has(tensor))),
          ...(one.own.groups ? { groups: one.own.groups } : {}),
          ...(one.own.evaluate ? { evaluate: one.own.evaluate } : {}),
          data: one.own.data,
          options: { ...one.options, ...inOneGraph },
          ...(onEvent ? { onEvent: (event: TrainEvent) => onEvent({ ...event, member: name }) } : {}),
        },
      ];
    }),
  );
}

/** All trainings as one, for the estimate of memory: the longest samples of each in one run. */
function unitedRun<Sample>(
  run: SeveralRun<Sample>,
  trainings: ReadonlyMap<string, TrainingRun<Sample>>,
  options: SharedOptions,
): TrainingRun<{ readonly member: string; readonly sample: Sample }> {
  const samples = [...trainings].flatMap(([member, { data }]) =>
    Array.from(data.samples, (sample) => ({ member, sample })),
  );
  const dataOf = (member: string) => (trainings.get(member) as TrainingRun<Sample>).data;
  const parsed = [...trainings.values()].map((one) => one.options as TrainOptions);
  return {
    training: run.training,
    ...(run.evaluation ? { evaluation: run.evaluation } : {}),
    parameters: run.parameters,
    data: {
      samples,
      lengthOf: ({ member, sample }) => dataOf(member).lengthOf(sample),
      collate(list, key) {
        const groups = new Map(
          [...trainings.keys()].map((name) => [name, list.filter(({ member }) => member === name)]),
        );
        const parts = [...groups].flatMap(([name, own]) =>
          own.length === 0
            ? []
            : [
                dataOf(name).collate(
                  own.map(({ sample }) => sample),
                  key,
                ),
              ],
        );
        const counts = new Map([...groups].map(([name, own]) => [name, own.length]));
        return { ...joinFeeds(parts, run.padding ?? {}), ...segmentFeeds(counts) };
      },
    },
    options: {
      ...(parsed[0] as TrainOptions),
      microBatchTokens: runSizes(options).maxTokens,
      batchSize: parsed.reduce((sum, { batchSize }) => sum + batchSize, 0),
    },
  };
}

async function openSeveralEngine<Sample>(
  run: SeveralRun<Sample>,
  options: SharedOptions,
  trainings: ReadonlyMap<string, TrainingRun<Sample>>,
): Promise<FileEngine> {
  const members = [...trainings].map(([name, one]): [string, MemberSetup] => {
    const own = one.options as TrainOptions;
    const { totalSteps } = stepCounts(one.data.samples.length, own);
    return [name, { optimizer: own.optimizer, groups: one.groups ?? [], seed: own.seed, totalSteps }];
  });
  const setup = {
    training: trainedProgram(run.training, options),
    ...(run.evaluation ? { evaluation: run.evaluation } : {}),
    parameters: run.parameters,
    seed: options.seed,
    members: Object.fromEntries(members),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    device: options.device,
  };
  return options.isolation === "inline"
    ? withFiles(await createEngine(onnxruntimeNode, setup))
    : createEngineProcess(setup);
}
