import type { Claim, ClaimContext } from "../claim.ts";
import { type Planted, type PlantedResult, plantedProblem, trainPlanted } from "../planted-transformer.ts";
import { rateOfBest } from "../planted-trials.ts";
import {
  CHANGES,
  type GrowthResult,
  type GrowthSystem,
  growthFigures,
  growthNames,
  growthSystems,
} from "../rank-growth.ts";

/** Set up on problem 21, which is not among these. */
const PROBLEMS = [31, 32, 33];
const SEEDS = [1, 2, 3];
const RATES = [0.005, 0.015, 0.03, 0.06];
const STEPS = 1500;
const systems = growthSystems({ warmup: 20, interval: 4 });

async function judge(
  context: ClaimContext,
  problem: number,
  planted: Planted,
  name: GrowthSystem,
): Promise<GrowthResult & { readonly rate: number }> {
  const { type, config } = systems[name];
  const trained = (learningRate: number, seed: number): Promise<PlantedResult> =>
    context.remember(`problem ${problem}, ${name}, learning rate ${learningRate}, seed ${seed}`, () =>
      trainPlanted(planted, {
        ...{ type, learningRate, seed, steps: STEPS },
        config: { ...config, targetModules: [...planted.modules] },
      }),
    );
  const rate = await rateOfBest(RATES, async (own) => (await trained(own, SEEDS[0] as number)).score);
  const results: PlantedResult[] = [];
  for (const seed of SEEDS) results.push(await trained(rate, seed));
  return { rate, results, changed: planted.changed };
}

export const claim: Claim = {
  id: "tri-adapt-growth",
  paper: "2501.08008",
  statement:
    "Ranks that grow where the middle matrix grew are worth more than the same total of equal ranks, and more than ranks that grow anywhere; different seeds give the ranks to the same modules.",
  setup:
    "Three random transformers of twelve linear modules; targets are the outputs of the same network with changes of ranks 12, 8, 6, 4, 2 and 2 at six of them; 8,192 samples, 1,500 steps, three seeds, the best of four learning rates on the first. From rank 1 to a total of 24 (start c0, constant scale, a rank each 4 steps), by score or at random, and LoRA r 2. Score: share of what the changes do to outputs that is learnt.",
  async run(context) {
    const found: Record<GrowthSystem, (GrowthResult & { readonly rate: number })[]> = {
      ...{ TriAdaptLoRA: [], "growth at random modules": [], LoRA: [] },
    };
    for (const problem of PROBLEMS) {
      const planted = await plantedProblem(problem, CHANGES, { size: 0.3, train: 8192 });
      for (const name of growthNames) found[name].push(await judge(context, problem, planted, name));
    }
    const rates = Object.fromEntries(
      growthNames.map((name) => [`${name}, learning rates`, found[name].map((r) => r.rate).join(", ")]),
    );
    return {
      ...growthFigures(found, rates),
      note: "On planted changes instead of pairs of sentences. Asked for: at least LoRA's score, a point above random growth, and a mean correlation above 0.5.",
    };
  },
};
