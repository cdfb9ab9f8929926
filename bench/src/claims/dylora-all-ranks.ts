import { methodOf } from "@onnx-peft/core";
import type { Claim, ClaimContext } from "../claim.ts";
import { mean } from "../mean.ts";
import { type Cuts, judgeRanks, RANKS, trainAndCut } from "../methods/cut-to-ranks.ts";
import { accuracyOf, logitsOf } from "../methods/judge-adapter.ts";
import { type MethodRun, tuneGloss } from "../methods/train-method.ts";

const SIZES = { train: 400, validation: 200, test: 600 };
const SEEDS = [1, 2, 3];
/** alpha / r is 2 at r 8 for all. */
const common = { alpha: 16, targetModules: ["query", "value"] };
const dylora = { type: "DYLORA", config: { rMax: 8, ...common } };
const lora = (r: number) => ({ type: "LORA", config: { r, ...common } });

function trainedAndCut(context: ClaimContext, run: MethodRun): Promise<Cuts> {
  return context.remember(JSON.stringify({ ...run, RANKS, SIZES }), async () => {
    const gloss = await context.gloss(run.seed, SIZES);
    return trainAndCut(
      () => tuneGloss(gloss, { ...run, method: methodOf(run.type) }),
      async (adapter) => accuracyOf(await logitsOf(gloss, adapter, gloss.test), gloss.test),
    );
  });
}

export const claim: Claim = {
  id: "dylora-all-ranks",
  paper: "2210.07558",
  statement:
    "One training gives a LoRA that works at every rank, without a search: cut to low ranks it stays near LoRA trained at that rank, where a LoRA that is cut falls.",
  setup:
    "WordNet definitions, 400 to train on, four epochs, three seeds, query and value, r 8, alpha 16, learning rate 0.002 for all; LoRA r 8 cut afterwards with either factor, the better one counts; LoRA trained at ranks 1, 2 and 4 with alpha 16. Time is that of the CPU.",
  async run(context) {
    const overSeeds = async (system: Pick<MethodRun, "type" | "config">): Promise<Cuts[]> => {
      const cuts: Cuts[] = [];
      for (const seed of SEEDS)
        cuts.push(await trainedAndCut(context, { ...system, learningRate: 2e-3, epochs: 4, seed }));
      return cuts;
    };
    const runs = { dylora: await overSeeds(dylora), cut: await overSeeds(lora(8)) };
    const alone = new Map<number, Cuts[]>();
    for (const r of RANKS) alone.set(r, await overSeeds(lora(r)));
    const probes = await Promise.all(SEEDS.map(async (seed) => (await context.gloss(seed, SIZES)).probe.testAccuracy));
    const { figures, holds, note } = judgeRanks({ ...runs, alone });
    return {
      figures: { "frozen encoder and head": mean(probes), ...figures },
      holds,
      note: `${note} The frozen encoder's accuracy bounds from below how far a cut adapter can fall.`,
    };
  },
};
