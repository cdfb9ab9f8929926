import { rowsInputName } from "../adapters/row-segments.ts";
import { PeftError } from "../errors.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import type { StepRequest, StepResult } from "./engine.ts";
import type { FileEngine } from "./engine-files.ts";
import { joinFeeds, type Padding } from "./join-feeds.ts";

/** One engine that several trainings share: their steps are made together. */
export interface SharedEngine {
  /** The engine as one training sees it. */
  member(name: string): FileEngine;
  /** To be awaited where a training would save: all that go on save together, one that ends waits for none. */
  checkpoint(name: string): Promise<void>;
  /** Ends every training with this error. */
  fail(error: unknown): void;
}

export interface SharedEngineSetup {
  readonly engine: FileEngine;
  /** Names of all adapters of the program, with the names of their tensors. */
  readonly members: ReadonlyMap<string, readonly string[]>;
  readonly padding: Padding;
  /** An input of the program whose first axis is the batch. */
  readonly batchInput: string;
  /** Writes a checkpoint of all. */
  commit(): Promise<void>;
  /** Called when all trainings are about to make a step. */
  beforeStep(): void;
}

/** What a training waits for. */
interface Waiting {
  readonly request: StepRequest | "checkpoint";
  resolve(result: StepResult | null): void;
  reject(error: unknown): void;
}

/** Feeds that give each member the rows that stand one below the other. */
export function segmentFeeds(counts: ReadonlyMap<string, number>): Record<string, RuntimeTensor> {
  let start = 0;
  const feeds: [string, RuntimeTensor][] = [];
  for (const [name, count] of counts) {
    const from = start;
    const data = BigInt64Array.from({ length: count }, (_, i) => BigInt(from + i));
    feeds.push([rowsInputName(name), { type: "int64", dims: [count], data }]);
    start += count;
  }
  return Object.fromEntries(feeds);
}

/**
 * Lets trainings share an engine. Each runs its own loop; a step is made when all that still run have asked for theirs: the k-th
 * micro-batches of all become one run, rows of one adapter after those of another. So all stand at the same step, and a checkpoint
 * of all at once can be continued exactly.
 */
export function shareEngine(setup: SharedEngineSetup): SharedEngine {
  const { engine, members } = setup;
  const open = new Set(members.keys());
  const waiting = new Map<string, Waiting>();
  let failure: unknown;
  let failed = false;
  let isBusy = false;
  let queue: Promise<unknown> = Promise.resolve();

  /** Calls of the engine must not overlap. */
  function alone<T>(call: () => Promise<T>): Promise<T> {
    const result = queue.then(call);
    queue = result.catch(() => {});
    return result;
  }

  const rowsOf = (feeds: Feeds): number => feeds[setup.batchInput]?.dims[0] ?? 0;

  function joinedRun(requests: ReadonlyMap<string, StepRequest>, k: number): Feeds {
    const parts = new Map<string, Feeds>();
    for (const [name, { runs }] of requests) if (runs[k]) parts.set(name, runs[k]);
    const ordered = [...members.keys()].map((name) => parts.get(name)).filter((part) => part !== undefined);
    const counts = new Map([...members.keys()].map((name) => [name, rowsOf(parts.get(name) ?? {})]));
    return { ...joinFeeds(ordered, setup.padding), ...segmentFeeds(counts) };
  }

  async function makeStep(requests: ReadonlyMap<string, StepRequest>): Promise<StepResult> {
    const list = [...requests.values()];
    const count = Math.max(...list.map(({ runs }) => runs.length));
    return alone(() =>
      engine.step({
        step: Math.max(...list.map(({ step }) => step)),
        learningRateScale: 1,
        runs: Array.from({ length: count }, (_, k) => joinedRun(requests, k)),
        members: Object.fromEntries([...requests].map(([name, { runs: _, ...own }]) => [name, own])),
      }),
    );
  }

  async function act(now: ReadonlyMap<string, Waiting>): Promise<void> {
    const requests = new Map<string, StepRequest>();
    for (const [name, { request }] of now) if (request !== "checkpoint") requests.set(name, request);
    if (requests.size === now.size) {
      setup.beforeStep();
      const result = await makeStep(requests);
      for (const [name, { resolve }] of now) resolve({ ...result, ...result.members[name] });
      return;
    }
    // Those that save while others go on have come to their end: what they saved is written with the next checkpoint.
    if (requests.size === 0) await alone(() => setup.commit());
    for (const [name, one] of now) {
      if (one.request === "checkpoint") one.resolve(null);
      else waiting.set(name, one);
    }
  }

  /** Goes on when everybody waits. */
  function turn(): void {
    if (isBusy || failed || open.size === 0 || waiting.size < open.size) return;
    // Two that end at the same step save one after the other while the rest waits: look again when they have closed.
    const now = new Map(waiting);
    waiting.clear();
    isBusy = true;
    act(now)
      .catch((error: unknown) => {
        for (const { reject } of now.values()) reject(error);
        fail(error);
      })
      .finally(() => {
        isBusy = false;
        turn();
      });
  }

  function fail(error: unknown): void {
    if (!failed) [failed, failure] = [true, error];
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  }

  function wait(name: string, request: StepRequest | "checkpoint"): Promise<StepResult | null> {
    if (failed) return Promise.reject(failure);
    return new Promise((resolve, reject) => {
      waiting.set(name, { request, resolve, reject });
      turn();
    });
  }

  const unsupported = (): never => {
    throw new PeftError("ENGINE", "A shared engine is saved and restored for all trainings at once.");
  };

  return {
    member(name) {
      const own = members.get(name) ?? [];
      return {
        step: async (request) => (await wait(name, request)) as StepResult,
        evaluate: (feeds) => {
          const counts = new Map([...members.keys()].map((other) => [other, other === name ? rowsOf(feeds) : 0]));
          return alone(() => engine.evaluate({ ...feeds, ...segmentFeeds(counts) }));
        },
        keepBest: () => alone(() => engine.keepBest(own)),
        async bestParameters() {
          const all = await alone(() => engine.bestParameters());
          return Object.fromEntries(Object.entries(all).filter(([tensor]) => own.includes(tensor)));
        },
        save: async () => unsupported(),
        restore: async () => unsupported(),
        async close() {
          open.delete(name);
          turn();
        },
      };
    },
    checkpoint: async (name) => void (await wait(name, "checkpoint")),
    fail,
  };
}
