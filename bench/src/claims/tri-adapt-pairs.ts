import { spearman } from "@onnx-peft/core";
import type { Claim } from "../claim.ts";
import { mean } from "../mean.ts";
import { openPairTask, type PairFigures, type PairTask, trainPairs } from "../methods/pair-task.ts";

/** Validation pairs of two splits: test pairs were looked at with other schedules. */
const SIZES = { train: 18_000, validation: 3800, test: 1 };
/** The learning rate is chosen with the first on one split; the others are judged on another, on what is not in the first. */
const [SETUP, SEEDS] = [0, [21, 22, 23]] as const;
const [SETUP_SPLIT, SPLIT] = [1, 2];
const [REFERENCE, ALPHA, BATCH] = [4, 16, 16];

const growing = {
  ...{ referenceRank: REFERENCE, initRank: 1, increment: 2, alpha: ALPHA, orthReg: 0.1 },
  ...{ warmup: 100, interval: 100, capTotal: true, rescaleOnGrowth: true },
};
const systems = {
  TriAdaptLoRA: { type: "TRIADAPTLORA", config: growing },
  "growth at random modules": { type: "TRIADAPTLORA", config: { ...growing, choose: "random" } },
  LoRA: { type: "LORA", config: { r: REFERENCE, alpha: ALPHA } },
};
/** As many for each; a middle matrix that starts at zero takes larger steps. */
const rates = {
  TriAdaptLoRA: [1.5e-3, 3e-3, 6e-3],
  "growth at random modules": [7.5e-4, 1.5e-3, 3e-3],
  LoRA: [2.5e-4, 5e-4, 1e-3],
};
type Name = keyof typeof systems;
const names = Object.keys(systems) as Name[];
const total = ({ ranks }: PairFigures): number => Object.values(ranks).reduce((a, b) => a + b, 0);

export const claim: Claim = {
  id: "tri-adapt-pairs",
  paper: "2501.08008",
  statement:
    "Ranks that grow where the middle matrix grew are worth at least as much as the same total of equal ranks, and more than ranks that grow anywhere; different seeds give the ranks to the same modules.",
  setup:
    "Which of two definitions of WordNet is of the broader concept? 18,000 pairs to train on in 1,125 steps of 16; 3,800 for the choice of the learning rate (best of three, a fourth seed); judged on 3,657 pairs of another split, none of them among those, their definitions not trained on; the first two layers of the embedded encoder with BERT's head for pairs; six linear modules of each. From rank 1 to a total of 48 (start c0, alpha 16 over the rank, C rescaled when a rank grows, orthogonality 0.1, two ranks at a time, a look each 100 steps after step 100), by score or at random, and LoRA r 4, alpha 16. Three seeds.",
  async run(context) {
    const tasks = new Map<boolean, Promise<PairTask>>();
    const open = (isSetup: boolean): Promise<PairTask> => {
      const task =
        tasks.get(isSetup) ?? (isSetup ? openPairTask(SIZES, SETUP_SPLIT) : openPairTask(SIZES, SPLIT, SETUP_SPLIT));
      tasks.set(isSetup, task);
      return task;
    };
    const trained = (name: Name, learningRate: number, seed: number): Promise<PairFigures> => {
      const run = { ...systems[name], learningRate, seed, batchSize: BATCH, judged: "validation" } as const;
      return context.remember(JSON.stringify({ ...run, SIZES }), async () =>
        trainPairs(await open(seed === SETUP), run),
      );
    };
    const chosen = new Map<Name, number>();
    for (const name of names) {
      let best = { rate: Number.NaN, accuracy: -1 };
      for (const rate of rates[name]) {
        const { accuracy } = await trained(name, rate, SETUP);
        if (accuracy > best.accuracy) best = { rate, accuracy };
      }
      chosen.set(name, best.rate);
    }
    const rateOf = (name: Name): number => chosen.get(name) ?? Number.NaN;
    const found: Record<Name, PairFigures[]> = { TriAdaptLoRA: [], "growth at random modules": [], LoRA: [] };
    for (const name of names) {
      for (const seed of SEEDS) found[name].push(await trained(name, rateOf(name), seed));
    }
    const accuracies = (name: Name): number[] => found[name].map(({ accuracy }) => accuracy);
    const spread = (name: Name): number => Math.max(...accuracies(name)) - Math.min(...accuracies(name));
    const rows = found.TriAdaptLoRA.map(({ ranks }) => Object.values(ranks));
    const correlations = rows.flatMap((row, i) => rows.slice(i + 1).map((other) => spearman(row, other)));
    const figuresOf = (what: string, of: (name: Name) => number) =>
      Object.fromEntries(names.map((name) => [`${name}, ${what}`, of(name)]));
    const score = (name: Name): number => mean(accuracies(name));
    return {
      figures: {
        ...figuresOf("accuracy", score),
        ...figuresOf("accuracy, largest less smallest of the seeds", spread),
        ...figuresOf("learning rate", rateOf),
        ...figuresOf("total rank", (name) => mean(found[name].map(total))),
        "rank correlation between seeds, mean": mean(correlations),
        "rank correlation between seeds, worst": Math.min(...correlations),
        ...Object.fromEntries(
          rows.map((row, i) => [
            `ranks by module, seed ${SEEDS[i]}`,
            `${row.slice(0, 6).join(" ")} / ${row.slice(6).join(" ")}`,
          ]),
        ),
      },
      holds:
        score("TriAdaptLoRA") >= score("LoRA") &&
        score("TriAdaptLoRA") >= score("growth at random modules") + 0.01 &&
        Math.min(...correlations) > 0.5,
      note: "Asked for: at least LoRA's accuracy, a point above random growth, and every two seeds correlated above 0.5; none of the three is as asked. Modules: query, key, value, attention output, up and down projection of the first and of the second layer. The schedule was chosen with three seeds that are not judged, of which every two correlated by 0.51 to 0.68: the new seeds say that this was chance, and so do schedules beside it (mean correlations: without rescaling 0.28, no look before step 400 0.39, 563 steps of 32 pairs with a look each 50 0.27, and of two seeds, from rank 2 0.13, one rank at a time 0.09). Where C starts at zero, which of query and key, and of value and attention output, takes the change depends on the first random row: before ranks grow, norms of modules correlate by 0.45 between seeds. Where it starts as the identity, with the constant factor 2, they do by 0.79, and ranks agree the better the less noise gradients have: with looks each 5 steps from step 30 or 40, by 0.44 in batches of 16, 0.61 of 32 and 0.66 of 64 (the mean of those three seeds; accuracies were not looked at). Ranks matter little here: growth anywhere loses four tenths of a point. Schedules judged before, on other pairs and without rescaling: a look each 50 steps after step 50, 9,000 pairs in 1,125 steps: accuracies 0.830, 0.813 with random growth (0.824 at the same learning rate) and 0.828 with LoRA, correlation 0.43 in the mean, 0.28 at worst; a look each 20 steps after step 60, 6,000 pairs in 750 steps: 0.810, 0.807 and 0.822, correlation 0.03.",
    };
  },
};
