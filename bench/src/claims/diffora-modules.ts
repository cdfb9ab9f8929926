import { createRandom, searchModules } from "@onnx-peft/core";
import type { Claim } from "../claim.ts";
import { mean } from "../mean.ts";
import {
  type Planted,
  type PlantedResult,
  plantedFeeds,
  plantedLoss,
  plantedProblem,
  trainPlanted,
} from "../planted-transformer.ts";

const SEEDS = [1, 2, 3];
const [RANK, RATIO, RATE, STEPS] = [4, 0.5, 0.01, 200];
const CHANGES = [4, 4, 4, 4];

/** The searched adapter, and the modules that it has. */
async function searched(planted: Planted, seed: number): Promise<PlantedResult> {
  const { model, modules, train } = planted;
  const found = await searchModules({
    model,
    config: {
      ...{ r: RANK, alpha: RANK, ratio: RATIO, searchSteps: STEPS, evalSteps: STEPS, gateLearningRate: 0.05 },
      targetModules: [...modules],
    },
    loss: plantedLoss,
    data: { samples: train, lengthOf: ({ ids }) => ids.length, collate: (samples) => plantedFeeds(samples) },
    options: {
      ...{ batchSize: 32, microBatchTokens: 4096, seed, threads: 1, isolation: "inline", maxGradNorm: 1 },
      optimizer: { type: "adamw", learningRate: RATE },
    },
  });
  const { config, start } = found;
  return trainPlanted(planted, { type: "LORA", config, start, learningRate: RATE, seed, steps: STEPS });
}

const jaccard = (a: readonly string[], b: readonly string[]): number => {
  const common = a.filter((name) => b.includes(name)).length;
  return common / (a.length + b.length - common);
};

export const claim: Claim = {
  id: "diffora-modules",
  paper: "2502.08905",
  statement:
    "A LoRA at the half of the modules that a search chose is no worse than one of half the rank at all of them, better than one at modules drawn at random, and the choice hardly depends on the seed.",
  setup:
    "A random transformer of twelve linear modules; targets are the outputs of the same network with changes of rank 4 at four modules; 8,192 samples. DiffoRA (200 search steps, ratio 0.5, r 4, then 200 steps), LoRA r 2 everywhere and LoRA r 4 at six modules drawn at random, both for the 400 steps that search and retraining have together; three seeds. Score: share of what the changes do to outputs that is learnt.",
  async run(context) {
    const planted = await plantedProblem(11, CHANGES, { size: 0.3, train: 8192 });
    const { modules, changed } = planted;
    const plain = { type: "LORA", learningRate: RATE, steps: 2 * STEPS };
    const systems: Record<string, (seed: number) => Promise<PlantedResult>> = {
      DiffoRA: (seed) => searched(planted, seed),
      "LoRA of half the rank": (seed) =>
        trainPlanted(planted, {
          ...plain,
          seed,
          config: { r: RANK / 2, alpha: RANK / 2, targetModules: [...modules] },
        }),
      "LoRA at random modules": (seed) => {
        const order = createRandom(`modules ${seed}`)
          .permutation(modules.length)
          .slice(0, modules.length * RATIO);
        const chosen = modules.filter((_, i) => order.includes(i));
        return trainPlanted(planted, { ...plain, seed, config: { r: RANK, alpha: RANK, targetModules: chosen } });
      },
    };
    const found: Record<string, PlantedResult[]> = {};
    for (const [name, work] of Object.entries(systems))
      for (const seed of SEEDS) {
        const result = await context.remember(`${name}, seed ${seed}`, () => work(seed));
        found[name] = [...(found[name] ?? []), result];
      }
    const score = (name: string): number => mean((found[name] ?? []).map((result) => result.score));
    const kept = (found["DiffoRA"] ?? []).map(({ ranks }) => Object.keys(ranks));
    const pairs = kept.flatMap((a, i) => kept.slice(i + 1).map((b) => jaccard(a, b)));
    const [ours, half, random] = Object.keys(systems).map(score) as [number, number, number];
    return {
      figures: {
        ...Object.fromEntries(Object.keys(systems).map((name) => [`${name}, score`, score(name)])),
        ...Object.fromEntries(
          Object.keys(systems).map((name) => [
            `${name}, trained values`,
            mean((found[name] ?? []).map((result) => result.parameters)),
          ]),
        ),
        "changed modules among those kept, of four": mean(
          kept.map((names) => names.filter((name) => changed.includes(name)).length),
        ),
        "Jaccard index of the kept sets, mean of pairs": mean(pairs),
      },
      holds: ours >= half && ours >= random + 0.01,
      note: "On planted changes instead of texts; a point better than at random.",
    };
  },
};
