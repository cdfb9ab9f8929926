import type { ClaimContext } from "../claim.ts";
import type { GlossSizes } from "./gloss-task.ts";
import { accuracyOf, logitsOf, lossOf } from "./judge-adapter.ts";
import { type MethodRun, tuneGloss } from "./train-method.ts";

/** A method at one setting, before learning rate and seed. */
export type Setting = Omit<MethodRun, "learningRate" | "seed"> & {
  /** Names a method that is not registered in what is remembered. */
  readonly variant?: string;
};

export interface HeldOut {
  readonly validationLoss: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly seconds: number;
  readonly parameters: number;
}

/** Figures of a setting over seeds. */
export interface SettingFigures {
  readonly rate: number;
  /** Test loss and accuracy, one per seed. */
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
  readonly seconds: readonly number[];
  /** Trained values, the classifier left out. */
  readonly parameters: number;
}

/** One training, judged on validation and test texts; remembered. */
export function heldOut(
  context: ClaimContext,
  setting: Setting,
  learningRate: number,
  seed: number,
  sizes: GlossSizes,
): Promise<HeldOut> {
  const { method, onEvent, variant, ...plain } = setting;
  return context.remember(`${JSON.stringify({ ...plain, variant, learningRate, seed, sizes })}`, async () => {
    const gloss = await context.gloss(seed, sizes);
    await using tuned = await tuneGloss(gloss, {
      ...{ ...plain, learningRate, seed },
      ...(method ? { method } : {}),
      ...(onEvent ? { onEvent } : {}),
    });
    const rows = await logitsOf(gloss, tuned.adapter, gloss.test);
    return {
      validationLoss: lossOf(await logitsOf(gloss, tuned.adapter, gloss.validation), gloss.validation),
      loss: lossOf(rows, gloss.test),
      accuracy: accuracyOf(rows, gloss.test),
      seconds: tuned.training.elapsedMs / 1000,
      parameters: tuned.trainableParameters - gloss.probe.trainableParameters,
    };
  });
}

/** A setting over seeds, at the learning rate with the lowest validation loss of the first seed. */
export async function overSeeds(
  context: ClaimContext,
  setting: Setting,
  {
    rates,
    seeds,
    sizes,
  }: { readonly rates: readonly number[]; readonly seeds: readonly number[]; readonly sizes: GlossSizes },
): Promise<SettingFigures> {
  const [first = 1] = seeds;
  const tried: { rate: number; loss: number }[] = [];
  for (const rate of rates)
    tried.push({ rate, loss: (await heldOut(context, setting, rate, first, sizes)).validationLoss });
  const { rate } = tried.reduce((a, b) => (b.loss < a.loss ? b : a));
  const results: HeldOut[] = [];
  for (const seed of seeds) results.push(await heldOut(context, setting, rate, seed, sizes));
  return {
    rate,
    losses: results.map((r) => r.loss),
    accuracies: results.map((r) => r.accuracy),
    seconds: results.map((r) => r.seconds),
    parameters: results[0]?.parameters ?? 0,
  };
}
