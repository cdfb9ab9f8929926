import { fileURLToPath } from "node:url";
import { type GlossSizes, type GlossTask, openGlossTask } from "./methods/gloss-task.ts";
import { type Judged, type MethodFigures, type MethodRun, trainMethod } from "./methods/train-method.ts";
import { openRunStore } from "./run-store.ts";

/** A statement of a paper that takes training to check. One file in claims/ each. */
export interface Claim {
  /** The name of its file. */
  readonly id: string;
  /** arXiv number. */
  readonly paper: string | null;
  /** What the paper says, in a sentence. */
  readonly statement: string;
  /** What is run here to check it. */
  readonly setup: string;
  run(context: ClaimContext): Promise<ClaimOutcome>;
}

export interface ClaimOutcome {
  /** What was measured, by what it is. */
  readonly figures: Readonly<Record<string, number | string>>;
  readonly holds: boolean;
  /** What a reader must know to judge the answer. */
  readonly note?: string;
  readonly picture?: ClaimPicture;
}

/** Something to look at: a PNG file, and what it shows. */
export interface ClaimPicture {
  readonly png: Uint8Array;
  readonly caption: string;
}

export interface ClaimContext {
  /**
   * The result of work that is not done again when the claim is: it is kept under its key in `runs/claims/`. The key says
   * everything the result depends on.
   * @example
   * const loss = await context.remember(`planted rank 4, seed ${seed}`, () => trainPlanted(4, seed));
   */
  remember<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** {@link trainMethod} on the gloss task of the run's seed, remembered unless it has a method or an observer of its own. */
  train(run: MethodRun, judged: Judged, sizes?: GlossSizes): Promise<MethodFigures>;
  /** Data and model of the gloss task, opened once. */
  gloss(seed: number, sizes?: GlossSizes): Promise<GlossTask>;
  /** Reports progress. */
  log(text: string): void;
}

/** 1,000 definitions to train on: an epoch takes some four seconds on one thread. */
export const glossSizes: GlossSizes = { train: 1000, validation: 1000, test: 3000 };

const folder = fileURLToPath(new URL("../../runs/claims", import.meta.url));

/** The context a claim runs in. */
export async function createClaimContext(id: string, log: (text: string) => void): Promise<ClaimContext> {
  const store = await openRunStore<unknown>(`${folder}/${id}.jsonl`);
  const opened = new Map<string, Promise<GlossTask>>();
  const gloss = (seed: number, sizes: GlossSizes = glossSizes): Promise<GlossTask> => {
    const key = JSON.stringify([seed, sizes]);
    const task = opened.get(key) ?? openGlossTask(sizes, seed);
    opened.set(key, task);
    return task;
  };
  const remember = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const known = store.get(key) as T | undefined;
    if (known !== undefined) return known;
    const started = performance.now();
    const result = await work();
    await store.set(key, result);
    log(`${((performance.now() - started) / 1000).toFixed(1)} s  ${key}`);
    return result;
  };
  const train = async (run: MethodRun, judged: Judged, sizes: GlossSizes = glossSizes): Promise<MethodFigures> => {
    const work = async () => trainMethod(await gloss(run.seed, sizes), run, judged);
    if (run.method || run.onEvent) return work();
    return remember(`train ${JSON.stringify({ ...run, judged, sizes })}`, work);
  };
  return { remember, train, gloss, log };
}
