import { type Claim, glossSizes } from "../claim.ts";
import { overSeeds } from "../methods/held-out.ts";
import { mean } from "../planted-layer.ts";

const SEEDS = [1, 2, 3];
const TARGETS = { targetModules: ["query", "key", "value", "dense"] };

export const claim: Claim = {
  id: "loldu-pivots",
  paper: "2410.13618",
  statement:
    "Training some pivots of a triangular decomposition of each weight, a hundredth of LoRA's parameters, adapts a model beyond its head.",
  setup:
    "WordNet definitions, 1,000 to train on, four epochs, three seeds, all linear layers; 60 pivots each (64 are more than a hundredth of LoRA at this width) beside LoRA r 8 and the fitted head on the frozen encoder, both at the best of some learning rates by the validation loss of the first seed.",
  async run(context) {
    const common = { seeds: SEEDS, sizes: glossSizes };
    const ours = await overSeeds(
      context,
      { type: "LOLDU", config: { r: 60, ...TARGETS }, epochs: 4 },
      { ...common, rates: [3e-4, 1e-3, 3e-3] },
    );
    const lora = await overSeeds(
      context,
      { type: "LORA", config: { r: 8, alpha: 16, ...TARGETS }, epochs: 4 },
      { ...common, rates: [1e-3, 3e-3] },
    );
    const frozen: number[] = [];
    for (const seed of SEEDS) frozen.push((await context.gloss(seed, glossSizes)).probe.testAccuracy);
    const [a, l, f] = [mean(ours.accuracies), mean(lora.accuracies), mean(frozen)];
    return {
      figures: {
        "LoLDU, accuracy": a,
        "LoRA r 8, accuracy": l,
        "frozen encoder and head, accuracy": f,
        "LoLDU, trained values": ours.parameters,
        "LoRA r 8, trained values": lora.parameters,
        "LoLDU, learning rate": ours.rate,
        "LoRA r 8, learning rate": lora.rate,
      },
      holds: a >= f + 0.02 && ours.parameters < lora.parameters / 100,
      note: `Asked for: two points above the head alone with less than one per cent of LoRA's values. LoRA r 8 is ${l > a ? "better" : "not better"}.`,
    };
  },
};
