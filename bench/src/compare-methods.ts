/**
 * All methods on one task, side by side:
 *   npm run compare:methods -- [--only name]... [--concurrency 1] [--again] [--table] [--reduced] [--out folder]
 * Trains every entry of methods/entries.ts, first with several learning rates, then with three seeds at the best one. What
 * was trained is kept in bench/results/method-runs.jsonl and not trained again unless the entry changes or --again is
 * given. Writes methods.json, methods.md and methods.svg, in bench/results or `out`. With `--only`, other entries are shown
 * as far as they were trained; with `--table` nothing is trained.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compareEntry, fullSetting, inParallel, reducedSetting, type StoredRun } from "./methods/compare-methods.ts";
import { writeComparison } from "./methods/comparison-files.ts";
import { compared as all } from "./methods/entries.ts";
import { type GlossTask, openGlossTask } from "./methods/gloss-task.ts";
import { trainMethod } from "./methods/train-method.ts";
import { openRunStore } from "./run-store.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    concurrency: { type: "string", default: "1" },
    again: { type: "boolean", default: false },
    table: { type: "boolean", default: false },
    reduced: { type: "boolean", default: false },
    out: { type: "string" },
  },
});
const REDUCED = ["LoRA", "LoKr", "OFT", "BitFit"];
const results = values.out ? resolve(values.out) : fileURLToPath(new URL("../results", import.meta.url));
if (values.reduced && !values.out) throw new RangeError("--reduced needs --out: its figures mean nothing.");
const setting = values.reduced ? reducedSetting : fullSetting;
const unknown = values.only.filter((name) => !all.some((entry) => entry.name === name));
if (unknown.length > 0) throw new RangeError(`No entry is called ${unknown.join(", ")}.`);
const wanted = values.reduced ? REDUCED : values.only;
const chosen = values.table ? [] : wanted.length > 0 ? all.filter(({ name }) => wanted.includes(name)) : all;

await mkdir(results, { recursive: true });
const path = join(results, "method-runs.jsonl");
const store = await openRunStore<StoredRun>(path);
if (values.again) await store.remove((key) => chosen.some(({ name }) => key.startsWith(`${name} | `)));

const opened = new Map<number, Promise<GlossTask>>();
const open = (seed: number): Promise<GlossTask> => {
  const task = opened.get(seed) ?? openGlossTask(setting.sizes, seed);
  opened.set(seed, task);
  return task;
};

/** Runs of an entry: some four learning rates, and the seeds. */
const RUNS = 4 + setting.seeds.length;
const started = performance.now();
const trained = new Map(chosen.map(({ name }) => [name, 0]));
let [made, finished, failed] = [0, 0, 0];
const progress = (): string => {
  const open = chosen.length - finished - failed;
  const under = [...trained.values()].filter((count) => count > 0 && count < RUNS).reduce((a, b) => a + b, 0);
  const left = ((performance.now() - started) / Math.max(made, 1)) * Math.max(open * RUNS - under, 0);
  return `${finished} of ${chosen.length} entries, ${Math.ceil(left / 60_000)} min left`;
};
const percent = (value: number | null): string => (value === null ? "diverged" : `${(100 * value).toFixed(1)} %`);

await inParallel(chosen, Number(values.concurrency), async (entry) => {
  try {
    await compareEntry(
      {
        ...{ setting, store, open, train: trainMethod },
        onRun({ name }, rate, seed, run) {
          made++;
          trained.set(name, (trained.get(name) ?? 0) + 1);
          const found = percent(run.testAccuracy ?? run.validationAccuracy);
          console.log(`${name}, ${rate}, seed ${seed}: ${found} in ${run.seconds.toFixed(1)} s (${progress()})`);
        },
      },
      entry,
    );
    finished++;
  } catch (error) {
    failed++;
    process.exitCode = 1;
    console.error(`${entry.name} failed:`, error);
  }
  trained.set(entry.name, RUNS);
});
await writeComparison(results, { setting, store, open, all });
