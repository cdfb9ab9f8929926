import type { ClaimContext } from "./claim.ts";
import { mean } from "./mean.ts";
import type { MethodFigures, MethodRun } from "./methods/train-method.ts";

/** A method with its options and the learning rates that it is tried with. */
export interface Candidate extends Pick<MethodRun, "type" | "config"> {
  readonly rates: readonly number[];
}

/** A candidate at the learning rate that is best on the validation split of the first seed. */
export interface BestRate {
  readonly rate: number;
  /** One for each seed. */
  readonly runs: readonly MethodFigures[];
  readonly testAccuracy: number;
  /** Training loss of every step, mean over the seeds. */
  readonly losses: readonly number[];
}

/** Trains the gloss task with a candidate: one seed for the learning rate, then all. */
export async function atBestRate(
  context: ClaimContext,
  { rates, ...setting }: Candidate,
  { epochs, seeds }: { readonly epochs: number; readonly seeds: readonly number[] },
): Promise<BestRate> {
  const trained = (learningRate: number, seed: number): Promise<MethodFigures> =>
    context.train({ ...setting, learningRate, seed, epochs }, { validation: true, test: true });
  let best = { rate: rates[0] ?? 0, accuracy: -1 };
  for (const rate of rates) {
    const accuracy = (await trained(rate, seeds[0] ?? 1)).validationAccuracy ?? -1;
    if (accuracy > best.accuracy) best = { rate, accuracy };
  }
  const runs: MethodFigures[] = [];
  for (const seed of seeds) runs.push(await trained(best.rate, seed));
  const steps = Math.min(...runs.map(({ losses }) => losses.length));
  return {
    rate: best.rate,
    runs,
    testAccuracy: mean(runs.map((run) => run.testAccuracy ?? 0)),
    losses: Array.from({ length: steps }, (_, k) => mean(runs.map(({ losses }) => losses[k] ?? Number.NaN))),
  };
}

/** The first step at which the mean of the last `window` losses is at most `level`; null when there is none. */
export function stepBelow(losses: readonly number[], level: number, window: number): number | null {
  for (let step = window; step <= losses.length; step++)
    if (mean(losses.slice(step - window, step)) <= level) return step;
  return null;
}
