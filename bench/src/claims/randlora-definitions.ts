import type { Claim } from "../claim.ts";
import { overSeeds } from "../methods/held-out.ts";
import { mean } from "../planted-layer.ts";

const SIZES = { train: 400, validation: 200, test: 600 };
const TARGETS = { targetModules: ["query", "value"] };

export const claim: Claim = {
  id: "randlora-definitions",
  paper: "2502.00987",
  statement: "With as many parameters scaled sums of random bases are as good as LoRA on a task.",
  setup:
    "WordNet definitions, 400 to train on, two epochs, three seeds, query and value; RandLoRA r 16 at the better of two learning rates by the validation loss of the first seed, LoRA r 8.",
  async run(context) {
    const common = { seeds: [1, 2, 3], sizes: SIZES };
    const rand = await overSeeds(
      context,
      { type: "RANDLORA", config: { r: 16, alpha: 320, ...TARGETS }, epochs: 2 },
      { ...common, rates: [3e-3, 1e-2] },
    );
    const lora = await overSeeds(
      context,
      { type: "LORA", config: { r: 8, alpha: 16, ...TARGETS }, epochs: 2 },
      { ...common, rates: [3e-3] },
    );
    const [a, b] = [mean(rand.accuracies), mean(lora.accuracies)];
    return {
      figures: {
        "RandLoRA r 16, accuracy": a,
        "RandLoRA r 16, trained values": rand.parameters,
        "LoRA r 8, accuracy": b,
        "LoRA r 8, trained values": lora.parameters,
      },
      holds: a >= b - 0.01,
      note: "Asked for: not more than a point below LoRA.",
    };
  },
};
