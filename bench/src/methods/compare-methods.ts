import { createHash } from "node:crypto";
import type { RunStore } from "../run-store.ts";
import { chooseRate } from "./choose-rate.ts";
import { configOf, type Entry } from "./entry.ts";
import type { GlossSizes, GlossTask } from "./gloss-task.ts";
import { HEAD_LEARNING_RATE, type Judged, type MethodFigures, type MethodRun } from "./train-method.ts";

/** What all entries of a comparison have in common. */
export interface ComparisonSetting {
  readonly sizes: GlossSizes;
  readonly epochs: number;
  readonly seeds: readonly number[];
  /** Decades of the search for the learning rate. */
  readonly decades: readonly number[];
}

/** Chosen so that a run takes some seven seconds on one thread and the test split tells methods apart that differ by a point. */
export const fullSetting: ComparisonSetting = {
  sizes: { train: 1000, validation: 1000, test: 3000 },
  epochs: 2,
  seeds: [1, 2, 3],
  decades: [1e-3, 1e-2, 1e-1],
};

/** The whole chain in a few seconds. */
export const reducedSetting: ComparisonSetting = {
  sizes: { train: 64, validation: 32, test: 64 },
  epochs: 1,
  seeds: [1],
  decades: [1e-2],
};

/** One training as the store keeps it. */
export type StoredRun = Omit<MethodFigures, "losses"> & {
  /** Mean losses of the first and the last tenth of the steps. */
  readonly losses: readonly [first: number, last: number];
};

/** An entry with the runs that count. */
export interface EntryResult {
  readonly entry: Entry;
  /** Chosen on the validation split of the first seed; null: every rate diverged. */
  readonly learningRate: number | null;
  /** One per seed. */
  readonly runs: readonly StoredRun[];
}

export interface ComparisonRunner {
  readonly setting: ComparisonSetting;
  readonly store: RunStore<StoredRun>;
  open(seed: number): Promise<GlossTask>;
  train(task: GlossTask, run: MethodRun, judged: Judged): Promise<MethodFigures>;
  /** Told after every training that was made, not after those that were known. */
  onRun?(entry: Entry, rate: number, seed: number, run: StoredRun): void;
}

/** Names a training by everything its result depends on, the code of the method apart. */
export function runKey(entry: Entry, setting: ComparisonSetting, rate: number, seed: number, judged: Judged): string {
  const { sizes, epochs } = setting;
  const about = { config: configOf(entry), ratio: entry.loraPlusRatio, sizes, epochs, judged, HEAD_LEARNING_RATE };
  const fingerprint = createHash("sha256")
    .update(JSON.stringify([entry.type, about]))
    .digest("hex")
    .slice(0, 10);
  return `${entry.name} | ${rate} | seed ${seed} | ${judged.test ? "test" : "validation"} | ${fingerprint}`;
}

/** Searches the learning rate of one entry and trains it with all seeds; what the store knows is not trained again. */
export async function compareEntry(runner: ComparisonRunner, entry: Entry): Promise<EntryResult> {
  const { setting } = runner;
  const [firstSeed = 1] = setting.seeds;
  const learningRate = await chooseRate(async (rate) => {
    const { validationAccuracy } = await stored(runner, entry, rate, firstSeed, { validation: true });
    return validationAccuracy;
  }, setting.decades);
  const runs: StoredRun[] = [];
  if (learningRate !== null) {
    for (const seed of setting.seeds) {
      runs.push(await stored(runner, entry, learningRate, seed, { test: true, merge: true }));
    }
  }
  return { entry, learningRate, runs };
}

async function stored(
  runner: ComparisonRunner,
  entry: Entry,
  learningRate: number,
  seed: number,
  judged: Judged,
): Promise<StoredRun> {
  const { setting, store } = runner;
  const key = runKey(entry, setting, learningRate, seed, judged);
  const known = store.get(key);
  if (known) return known;
  const { type, loraPlusRatio } = entry;
  const run: MethodRun = {
    ...{ type, config: configOf(entry), learningRate, seed, epochs: setting.epochs },
    ...(loraPlusRatio === undefined ? {} : { loraPlusRatio }),
  };
  const { losses, ...figures } = await runner.train(await runner.open(seed), run, judged);
  const result: StoredRun = { ...figures, losses: [meanOf(losses, "first"), meanOf(losses, "last")] };
  await store.set(key, result);
  runner.onRun?.(entry, learningRate, seed, result);
  return result;
}

function meanOf(losses: readonly number[], which: "first" | "last"): number {
  const count = Math.max(1, Math.floor(losses.length / 10));
  const part = which === "first" ? losses.slice(0, count) : losses.slice(-count);
  return part.reduce((a, b) => a + b, 0) / part.length;
}

/** Runs `work` on every item, so many at a time. */
export async function inParallel<T, R>(
  items: readonly T[],
  concurrency: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return results;
}
