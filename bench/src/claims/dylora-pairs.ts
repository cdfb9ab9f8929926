import type { Claim } from "../claim.ts";
import { mean } from "../mean.ts";
import { type Cuts, judgeRanks, RANKS, trainAndCut } from "../methods/cut-to-ranks.ts";
import { accuracyOf, logitsOf } from "../methods/judge-adapter.ts";
import { openPairTask, type PairTask, tunePairs } from "../methods/pair-task.ts";

const SIZES = { train: 18_000, validation: 1500, test: 3000 };
const BATCH = 16;
/** Learning rates are chosen on validation pairs with the first; the others are judged, on test pairs. */
const [SETUP, SEEDS] = [0, [1, 2, 3]] as const;

const dylora = { type: "DYLORA", config: { rMax: 8, alpha: 2, update: "prefix" } };
const lora = (r: number) => ({ type: "LORA", config: { r, alpha: 16 } });
type System = typeof dylora | ReturnType<typeof lora>;

const RATES = { DYLORA: [5e-4, 1e-3, 2e-3], LORA: [2.5e-4, 5e-4, 1e-3] };
const last = (scores: readonly number[]): number => scores.at(-1) as number;

export const claim: Claim = {
  id: "dylora-pairs",
  paper: "2210.07558",
  statement:
    "One training gives a LoRA that works at every rank, without a search: cut to low ranks it stays near LoRA trained at that rank, where a LoRA that is cut falls.",
  setup:
    "Which of two definitions of WordNet is of the broader concept? 18,000 pairs to train on in 1,125 steps of 16, 1,500 for the choice of the learning rate (best of three, a fourth seed), 3,000 to judge, all of other definitions; the first two layers of the embedded encoder with BERT's head for pairs; six linear modules of each. DyLoRA to rank 8 (prefix updates, alpha 2) at the rate of the best mean over ranks; LoRA r 8 (alpha 16, as at every rank), likewise, cut afterwards with either factor, of which the better one counts; LoRA trained at ranks 1 and 8 at the rate of its own best accuracy. Three seeds.",
  async run(context) {
    let opened: Promise<PairTask> | undefined;
    const trained = (system: System, learningRate: number, seed: number): Promise<Cuts> =>
      context.remember(JSON.stringify({ ...system, learningRate, seed, RANKS, BATCH, SIZES }), async () => {
        opened ??= openPairTask(SIZES);
        const pairs = await opened;
        const rows = seed === SETUP ? pairs.validation : pairs.test;
        return trainAndCut(
          () => tunePairs(pairs, { ...system, learningRate, seed, batchSize: BATCH, isolation: "inline" }),
          async (adapter) => accuracyOf(await logitsOf(pairs, adapter, rows), rows),
        );
      });
    /** The learning rate that is best by this of the setup seed's scores. */
    const bestRate = async (system: System, by: (scores: readonly number[]) => number): Promise<number> => {
      let best = { rate: Number.NaN, score: Number.NEGATIVE_INFINITY };
      for (const rate of RATES[system.type as keyof typeof RATES]) {
        const score = by((await trained(system, rate, SETUP)).scores);
        if (score > best.score) best = { rate, score };
      }
      return best.rate;
    };
    const ours = await bestRate(dylora, mean);
    const [cut, whole] = [await bestRate(lora(8), mean), await bestRate(lora(8), last)];
    const first = await bestRate(lora(1), last);
    const overSeeds = async (system: System, rate: number): Promise<Cuts[]> => {
      const cuts: Cuts[] = [];
      for (const seed of SEEDS) cuts.push(await trained(system, rate, seed));
      return cuts;
    };
    const runs = { dylora: await overSeeds(dylora, ours), cut: await overSeeds(lora(8), cut) };
    const alone = new Map([
      [1, await overSeeds(lora(1), first)],
      [8, await overSeeds(lora(8), whole)],
    ]);
    const { figures, holds, note } = judgeRanks({ ...runs, alone });
    return {
      figures: {
        ...figures,
        "DyLoRA, learning rate": ours,
        "LoRA r 8, cut, learning rate": cut,
        "LoRA r 1, learning rate": first,
        "LoRA r 8, learning rate": whole,
      },
      holds,
      note,
    };
  },
};
