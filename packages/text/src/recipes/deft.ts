import {
  activationDensity,
  type DensityPenaltyOptions,
  densityPenalty,
  type Feeds,
  type LoraConfig,
  type Metrics,
  PeftError,
  planMicroBatches,
} from "@onnx-peft/core";
import { padIdOf } from "../models/text-inputs.ts";
import { type FineTuned, type FineTuneOptions, fineTune } from "../tasks/fine-tune.ts";
import { feedsFor } from "../tasks/run-task.ts";

/** What {@link deft} needs to know: a fine-tuning with validation samples, and the penalty. */
export interface DeftOptions<Sample, C extends object = LoraConfig> extends FineTuneOptions<Sample, C> {
  readonly validation: readonly Sample[];
  /** Default weight 1, eps 1e-7, all feed-forward blocks, padding counted. */
  readonly density?: DensityPenaltyOptions;
}

/** One of the two trainings, judged on the validation samples. */
export interface DeftRun<Sample> {
  readonly tuned: FineTuned<Sample>;
  readonly metrics: Metrics;
  /** Share of activations that are not exactly zero, mean over layers. */
  readonly density: number;
  /** The surrogate that the penalty lowers. */
  readonly surrogate: number;
}

export interface DeftComparison<Sample> {
  readonly without: DeftRun<Sample>;
  readonly with: DeftRun<Sample>;
  /** (density without - density with) / density without. */
  readonly densityChange: number;
}

const BATCH_TOKENS = 1024;

/**
 * Density-efficient fine-tuning: the same adapter trained without and with the density penalty, at equal seeds and steps, with
 * what each is worth and how many of its activations are not zero. Runwal et al. 2024, arXiv 2402.01911. Both results are open:
 * close them. Costs two trainings.
 * @throws PeftError as `fineTune`; ACTIVATIONS_NOT_FOUND when the model has no feed-forward blocks
 * @example
 * const { densityChange } = await deft({ model, task, train, validation, adapter: { r: 8, targetModules: ["query", "value"] }, options });
 */
export async function deft<Sample, C extends object = LoraConfig>(
  run: DeftOptions<Sample, C>,
): Promise<DeftComparison<Sample>> {
  const { density = {}, folder, penalties = [], ...rest } = run;
  const { sites, maskPadding, gated, eps } = density;
  const choice = {
    ...(sites === undefined ? {} : { sites }),
    ...(maskPadding === undefined ? {} : { maskPadding }),
    ...(gated === undefined ? {} : { gated }),
    ...(eps === undefined ? {} : { eps }),
  };
  const batches = batchesOf(run);
  const judged = async (name: string, own: typeof penalties): Promise<DeftRun<Sample>> => {
    const at = folder === undefined ? {} : { folder: `${folder}/${name}` };
    const tuned = await fineTune({ ...rest, ...at, penalties: [...penalties, ...own] });
    try {
      const metrics = await tuned.evaluate(run.validation);
      const { isolation, threads, device } = run.options;
      const engine = {
        ...(isolation ? { isolation } : {}),
        ...(threads === undefined ? {} : { threads }),
        ...(device ? { device } : {}),
      };
      const found = await activationDensity(run.model.model, batches, { adapter: tuned.adapter, ...choice, ...engine });
      return { tuned, metrics, density: found.density, surrogate: found.surrogate };
    } catch (error) {
      await tuned.close();
      throw error;
    }
  };
  const without = await judged("without", []);
  try {
    const withPenalty = await judged("with", [densityPenalty(density)]);
    return { without, with: withPenalty, densityChange: 1 - withPenalty.density / without.density };
  } catch (error) {
    await without.tuned.close();
    throw error;
  }
}

/** The validation samples as feeds, in length-sorted batches. */
function batchesOf<Sample, C extends object>(run: DeftOptions<Sample, C>): Feeds[] {
  const { task, model, validation, padId = padIdOf(model.config) } = run;
  if (validation.length === 0) throw new PeftError("NO_DATA", "Expected validation samples, received none.");
  const names = new Set(model.model.graph.inputs.map((v) => v.name));
  const { runs } = planMicroBatches(
    validation.map((sample) => task.lengthOf(sample)),
    { maxTokens: BATCH_TOKENS },
  );
  return runs.map((indices) =>
    feedsFor(
      names,
      task.inputs(
        Array.from(indices, (i) => validation[i] as Sample),
        padId,
      ),
    ),
  );
}
