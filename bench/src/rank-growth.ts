import { spearman } from "@onnx-peft/core";
import { mean } from "./mean.ts";
import type { PlantedResult } from "./planted-transformer.ts";

/** Rank of LoRA at every module, and the mean rank that growth ends at. */
export const REFERENCE = 2;
/** Ranks of the planted changes: uneven, and none at half of the modules. */
export const CHANGES = [12, 8, 6, 4, 2, 2];

const LORA = { type: "LORA", config: { r: REFERENCE, alpha: REFERENCE } };

/** TriAdaptLoRA that grows on a schedule, the same at modules drawn at random, and LoRA of the same total rank. */
export function growthSystems(schedule: { readonly warmup: number; readonly interval: number }) {
  const growing = {
    ...{ referenceRank: REFERENCE, initRank: 1, increment: 1, alpha: REFERENCE, scaleBy: 1, orthReg: 0 },
    ...{ ...schedule, capTotal: true },
  };
  return {
    TriAdaptLoRA: { type: "TRIADAPTLORA", config: growing },
    "growth at random modules": { type: "TRIADAPTLORA", config: { ...growing, choose: "random" } },
    LoRA: LORA,
  };
}
export type GrowthSystem = keyof ReturnType<typeof growthSystems>;
export const growthNames: readonly GrowthSystem[] = ["TriAdaptLoRA", "growth at random modules", "LoRA"];

/** What came out on one problem, a result for every seed, and the modules whose change was planted. */
export interface GrowthResult {
  readonly results: readonly PlantedResult[];
  readonly changed: readonly string[];
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Scores, ranks and how far seeds agree on them; whether they are what the paper's specification asks for. */
export function growthFigures(
  found: Readonly<Record<GrowthSystem, readonly GrowthResult[]>>,
  rates: Readonly<Record<string, number | string>>,
): { figures: Record<string, number | string>; holds: boolean } {
  const score = (name: GrowthSystem): number =>
    mean(found[name].map(({ results }) => mean(results.map((r) => r.score))));
  const total = (name: GrowthSystem): number =>
    mean(found[name].flatMap(({ results }) => results.map(({ ranks }) => sum(Object.values(ranks)))));
  const grown = found.TriAdaptLoRA;
  const correlations = grown.map(({ results }) => {
    const rows = results.map(({ ranks }) => Object.values(ranks));
    return mean(rows.flatMap((a, i) => rows.slice(i + 1).map((b) => spearman(a, b))));
  });
  const atChanged = mean(
    grown.flatMap(({ results, changed }) => results.map(({ ranks }) => mean(changed.map((name) => ranks[name] ?? 0)))),
  );
  const [ours, random, lora] = [score("TriAdaptLoRA"), score("growth at random modules"), score("LoRA")];
  return {
    figures: {
      "TriAdaptLoRA, score": ours,
      "growth at random modules, score": random,
      "LoRA, score": lora,
      ...rates,
      "TriAdaptLoRA, total rank": total("TriAdaptLoRA"),
      "LoRA, total rank": total("LoRA"),
      "TriAdaptLoRA, mean rank of changed modules": atChanged,
      "rank correlation between seeds, mean": mean(correlations),
      "rank correlation between seeds, worst problem": Math.min(...correlations),
    },
    holds: ours >= lora && ours >= random + 0.01 && mean(correlations) > 0.5,
  };
}
