import type { Claim, ClaimContext } from "../claim.ts";
import type { MethodRun } from "../methods/train-method.ts";

type Setting = Pick<MethodRun, "type" | "config">;

const systems: Readonly<Record<string, Setting & { readonly rates: readonly number[] }>> = {
  LoRA: {
    type: "LORA",
    config: { r: 8, alpha: 16, targetModules: ["query", "value"] },
    rates: [1e-3, 2e-3, 4e-3],
  },
  full: {
    type: "FULL",
    config: { targetModules: ["query", "key", "value", "dense"] },
    rates: [1e-4, 3e-4, 1e-3],
  },
};
const SEEDS = [1, 2, 3];

/** Accuracy on the test split over the seeds, with the learning rate that is best on the validation split of the first. */
async function judge(context: ClaimContext, name: keyof typeof systems) {
  const { rates, ...setting } = systems[name] as (typeof systems)[string];
  const trained = (learningRate: number, seed: number) =>
    context.train({ ...setting, learningRate, seed, epochs: 2 }, { validation: true, test: true });
  let best = { rate: 0, accuracy: -1 };
  for (const rate of rates) {
    const { validationAccuracy } = await trained(rate, 1);
    if ((validationAccuracy ?? -1) > best.accuracy) best = { rate, accuracy: validationAccuracy ?? -1 };
  }
  const accuracies: number[] = [];
  let parameters = 0;
  for (const seed of SEEDS) {
    const figures = await trained(best.rate, seed);
    accuracies.push(figures.testAccuracy ?? 0);
    parameters = figures.parameters;
  }
  return { mean: accuracies.reduce((a, b) => a + b) / SEEDS.length, parameters, rate: best.rate };
}

export const claim: Claim = {
  id: "lora-beside-full",
  paper: "2106.09685",
  statement: "With a small share of the trained values LoRA is on a par with fine-tuning of all weights, or better.",
  setup:
    "WordNet definitions, 1,000 to train on, two epochs, three seeds; LoRA r 8 at query and value beside all linear layers in full, each at the best of three learning rates.",
  async run(context) {
    const [lora, full] = [await judge(context, "LoRA"), await judge(context, "full")];
    return {
      figures: {
        "LoRA, test accuracy": lora.mean,
        "LoRA, trained values": lora.parameters,
        "LoRA, learning rate": lora.rate,
        "full, test accuracy": full.mean,
        "full, trained values": full.parameters,
        "full, learning rate": full.rate,
      },
      holds: lora.mean >= full.mean - 0.01 && lora.parameters < full.parameters / 50,
      note: "On a par: not more than one point below.",
    };
  },
};
