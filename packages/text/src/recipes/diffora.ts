import {
  at,
  type DifforaInput,
  type Feeds,
  type LoraConfig,
  type ModuleSearchResult,
  type SearchLook,
  searchModules,
  type TargetConfig,
} from "@onnx-peft/core";
import { padIdOf } from "../models/text-inputs.ts";
import { type FineTuned, type FineTuneOptions, fineTune, withHead } from "../tasks/fine-tune.ts";
import { taskGraph, taskOutput } from "../tasks/task-graph.ts";

/** What {@link diffora} needs to know: a fine-tuning with LoRA whose modules are searched. */
export interface DifforaOptions<Sample>
  extends Omit<FineTuneOptions<Sample, LoraConfig>, "adapter" | "compute" | "method" | "start"> {
  /** How modules are searched, and among which; default all linear layers. */
  readonly search: DifforaInput & TargetConfig;
  /** Class of a sample, so that both parts of the search have the same shares. */
  readonly classOf?: (sample: Sample) => string | number;
  /** Called at every look at the gates. */
  readonly onSearch?: (look: SearchLook & { readonly totalSteps: number }) => void;
}

export interface DifforaResult<Sample> {
  readonly search: ModuleSearchResult;
  /** The LoRA of the kept modules. */
  readonly tuned: FineTuned<Sample>;
}

/**
 * DiffoRA: searches the modules that deserve a LoRA on the training samples, then trains a plain LoRA at those. Jiang, Wang and Yuan
 * 2025, arXiv 2502.08905; see `searchModules` for what is reconstruction. The validation samples judge the second stage only.
 * @throws PeftError as `searchModules` and `fineTune`; the signal's reason when it ended the search
 * @example
 * const { search, tuned } = await diffora({ model, task, train, search: { searchSteps: 200, ratio: 0.5 }, options });
 * search.table.gates; // a row per layer
 */
export async function diffora<Sample>(run: DifforaOptions<Sample>): Promise<DifforaResult<Sample>> {
  const { search: given, classOf, onSearch, folder, ...rest } = run;
  const { model, task, padId = padIdOf(model.config) } = run;
  const search = await searchModules<Sample>({
    model: model.model,
    config: withHead({ targetModules: "all-linear" as const, ...given }, task, model.initialized),
    wantedOutputs: [taskOutput(model.model.graph.outputs, task.head).name],
    loss: (adapted) => task.loss(taskGraph(adapted, task.head)),
    data: {
      samples: run.train,
      lengthOf: (sample) => task.lengthOf(sample),
      collate(samples): Feeds {
        const inputs = task.inputs(samples, padId);
        return { ...inputs, ...task.labels(samples, at(inputs.input_ids.dims, 1)) };
      },
    },
    options: run.options,
    ...(classOf ? { classOf } : {}),
    ...(run.groups ? { groups: run.groups } : {}),
    ...(folder === undefined ? {} : { folder: `${folder}/search` }),
    ...(run.signal ? { signal: run.signal } : {}),
    ...(onSearch ? { onEvent: onSearch } : {}),
  });
  run.signal?.throwIfAborted();
  const tuned = await fineTune<Sample>({
    ...rest,
    adapter: search.config,
    start: search.start,
    ...(folder === undefined ? {} : { folder: `${folder}/train` }),
  });
  return { search, tuned };
}
