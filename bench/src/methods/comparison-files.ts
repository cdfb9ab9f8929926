import { join } from "node:path";
import { atomicWrite } from "@onnx-peft/core";
import { machineName } from "../machine.ts";
import type { RunStore } from "../run-store.ts";
import { type ComparisonSetting, compareEntry, type EntryResult, type StoredRun } from "./compare-methods.ts";
import { type Comparison, comparisonChart, comparisonPage } from "./comparison-page.ts";
import { baselineRow, comparisonRow } from "./comparison-rows.ts";
import { readCosts } from "./cost-table.ts";
import { groupOf } from "./entries.ts";
import type { Entry } from "./entry.ts";
import type { GlossTask } from "./gloss-task.ts";

interface ComparisonSource {
  readonly setting: ComparisonSetting;
  readonly store: RunStore<StoredRun>;
  readonly all: readonly Entry[];
  open(seed: number): Promise<GlossTask>;
}

/** An entry as far as it was trained: null when a run is missing. */
async function knownResult({ setting, store, open }: ComparisonSource, entry: Entry): Promise<EntryResult | null> {
  const missing = Symbol("missing");
  try {
    const train = async (): Promise<never> => {
      throw missing;
    };
    return await compareEntry({ setting, store, open, train }, entry);
  } catch (error) {
    if (error === missing) return null;
    throw error;
  }
}

/** Writes methods.json, methods.md and methods.svg from what is in the store. */
export async function writeComparison(folder: string, source: ComparisonSource): Promise<Comparison> {
  const { setting, all } = source;
  const { costs } = await readCosts(folder);
  const baseline = baselineRow(
    await Promise.all(setting.seeds.map(async (seed) => (await source.open(seed)).probe.testAccuracy)),
  );
  const rows = [baseline];
  const missing: string[] = [];
  for (const entry of all) {
    const result = await knownResult(source, entry);
    if (result) rows.push(comparisonRow(result, costs[entry.name]?.small.stepRatio ?? null, baseline.accuracy ?? 0));
    else missing.push(entry.name);
  }
  const { sizes, epochs, seeds } = setting;
  const comparison: Comparison = {
    ...{ command: "npm run compare:methods", machine: machineName(1), sizes, epochs, seeds, rows, missing },
  };
  await atomicWrite(join(folder, "methods.json"), `${JSON.stringify(comparison, null, 2)}\n`);
  await atomicWrite(join(folder, "methods.md"), comparisonPage(comparison));
  await atomicWrite(join(folder, "methods.svg"), comparisonChart(comparison, groupOf));
  return comparison;
}
