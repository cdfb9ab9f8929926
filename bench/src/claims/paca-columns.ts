import { type Claim, glossSizes } from "../claim.ts";
import { overSeeds } from "../methods/held-out.ts";
import { mean } from "../planted-layer.ts";

const SEEDS = [1, 2, 3];
const TARGETS = { targetModules: ["query", "value"] };

export const claim: Claim = {
  id: "paca-columns",
  paper: "2503.01905",
  statement:
    "Training some random columns of the weights in place is as good as LoRA of as many parameters, and which columns hardly matters.",
  setup:
    "WordNet definitions, 1,000 to train on, three epochs, three seeds, query and value; PaCA r 16 with random columns and with those of largest norm beside LoRA r 8, each at the best of three learning rates by the validation loss of the first seed.",
  async run(context) {
    const common = { seeds: SEEDS, sizes: glossSizes };
    const paca = (selection: string) =>
      overSeeds(
        context,
        { type: "PACA", config: { r: 16, alpha: 16, selection, ...TARGETS }, epochs: 3 },
        { ...common, rates: [1e-3, 3e-3, 1e-2] },
      );
    const [random, largest] = [await paca("random"), await paca("weightNorm")];
    const lora = await overSeeds(
      context,
      { type: "LORA", config: { r: 8, alpha: 16, ...TARGETS }, epochs: 3 },
      { ...common, rates: [1e-3, 3e-3, 1e-2] },
    );
    const frozen: number[] = [];
    for (const seed of SEEDS) frozen.push((await context.gloss(seed, glossSizes)).probe.testAccuracy);
    const [a, n, l, f] = [mean(random.accuracies), mean(largest.accuracies), mean(lora.accuracies), mean(frozen)];
    return {
      figures: {
        "PaCA, random columns": a,
        "PaCA, largest columns": n,
        LoRA: l,
        "frozen encoder and head": f,
        "PaCA, trained values": random.parameters,
        "LoRA, trained values": lora.parameters,
      },
      holds: a >= l - 0.01 && a > f && a >= n - 0.01,
      note: "Asked for: within a point of LoRA, above the frozen encoder with its head, and random columns within a point of the largest.",
    };
  },
};
