import { spearman } from "@onnx-peft/core";
import type { Claim } from "../claim.ts";
import { mean } from "../mean.ts";
import { type PlantedResult, plantedProblem, trainPlanted } from "../planted-transformer.ts";

const SEEDS = [1, 2, 3];
const RATES = [0.005, 0.015];
const [REFERENCE, STEPS] = [4, 300];
/** Ranks of the planted changes: uneven, and none at half of the modules. */
const CHANGES = [12, 8, 6, 4, 2, 2];

const growing = {
  ...{ referenceRank: REFERENCE, initRank: 1, increment: 1, alpha: 4, scaleBy: 1, orthReg: 0 },
  ...{ warmup: 20, interval: 10, capTotal: true },
};
const systems = {
  TriAdaptLoRA: { type: "TRIADAPTLORA", config: growing },
  "growth at random modules": { type: "TRIADAPTLORA", config: { ...growing, choose: "random" } },
  LoRA: { type: "LORA", config: { r: REFERENCE, alpha: REFERENCE } },
};
type Name = keyof typeof systems;

export const claim: Claim = {
  id: "tri-adapt-growth",
  paper: "2501.08008",
  statement:
    "Ranks that grow where the middle matrix grew are worth more than the same total of equal ranks, and more than ranks that grow anywhere; different seeds give the ranks to the same modules.",
  setup:
    "A random transformer of twelve linear modules; targets are the outputs of the same network with changes of ranks 12, 8, 6, 4, 2 and 2 at six of them; 8,192 samples, 300 steps, three seeds, the better of two learning rates on the first. From rank 1 to a total of 48 (start c0, constant scale, a rank each 10 steps), by score or at random, and LoRA r 4. Score: share of what the changes do to outputs that is learnt.",
  async run(context) {
    const planted = await plantedProblem(21, CHANGES, { size: 0.3, train: 8192 });
    const found = new Map<Name, PlantedResult[]>();
    const rates: Record<string, number> = {};
    for (const name of Object.keys(systems) as Name[]) {
      const { type, config } = systems[name];
      const trained = (learningRate: number, seed: number): Promise<PlantedResult> =>
        context.remember(`${name}, learning rate ${learningRate}, seed ${seed}`, () =>
          trainPlanted(planted, {
            ...{ type, learningRate, seed, steps: STEPS },
            config: { ...config, targetModules: [...planted.modules] },
          }),
        );
      let best = { rate: 0, score: Number.NEGATIVE_INFINITY };
      for (const rate of RATES) {
        const { score } = await trained(rate, SEEDS[0] as number);
        if (score > best.score) best = { rate, score };
      }
      rates[`${name}, learning rate`] = best.rate;
      const results: PlantedResult[] = [];
      for (const seed of SEEDS) results.push(await trained(best.rate, seed));
      found.set(name, results);
    }
    const resultsOf = (name: Name): readonly PlantedResult[] => found.get(name) ?? [];
    const score = (name: Name): number => mean(resultsOf(name).map((result) => result.score));
    const total = ({ ranks }: PlantedResult): number => Object.values(ranks).reduce((a, b) => a + b, 0);
    const ranks = resultsOf("TriAdaptLoRA").map((result) => planted.modules.map((name) => result.ranks[name] ?? 0));
    const correlations = ranks.flatMap((a, i) => ranks.slice(i + 1).map((b) => spearman(a, b)));
    const atChanged = mean(
      ranks.map((row) =>
        mean(planted.modules.flatMap((name, i) => (planted.changed.includes(name) ? [row[i] ?? 0] : []))),
      ),
    );
    const [ours, random, lora] = [score("TriAdaptLoRA"), score("growth at random modules"), score("LoRA")];
    return {
      figures: {
        "TriAdaptLoRA, score": ours,
        "growth at random modules, score": random,
        "LoRA, score": lora,
        ...rates,
        "TriAdaptLoRA, total rank": mean(resultsOf("TriAdaptLoRA").map(total)),
        "LoRA, total rank": mean(resultsOf("LoRA").map(total)),
        "TriAdaptLoRA, mean rank of changed modules": atChanged,
        "rank correlation between seeds, least": Math.min(...correlations),
      },
      holds: ours >= lora && ours >= random + 0.01 && Math.min(...correlations) > 0.5,
      note: "On planted changes instead of pairs of sentences. At least LoRA's score, a point above random growth, and correlations above 0.5.",
    };
  },
};
