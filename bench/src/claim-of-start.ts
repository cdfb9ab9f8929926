import { atBestRate, stepBelow } from "./best-rate.ts";
import type { Claim } from "./claim.ts";

const SEEDS = [1, 2, 3];
const RATES = [5e-4, 1e-3, 2e-3];
const EPOCHS = 2;
/** Losses of single batches are noisy: means over so many are compared. */
const WINDOW = 16;

/** The claim that a start of LoRA from data learns faster than the usual one. */
export function claimOfStart({
  title,
  config,
  ...about
}: Pick<Claim, "id" | "paper" | "statement"> & {
  readonly title: string;
  readonly config: Readonly<Record<string, unknown>>;
}): Claim {
  return {
    ...about,
    setup:
      "WordNet definitions, 1,000 to train on, two epochs of 63 steps, three seeds, r 8 at query and value, the start from 256 of the definitions, each at the best of three learning rates. Steps: until the mean loss of the last 16 is what LoRA's is at its end.",
    async run(context) {
      const judge = (own: Readonly<Record<string, unknown>>) =>
        atBestRate(
          context,
          { type: "LORA", config: { r: 8, alpha: 16, targetModules: ["query", "value"], ...own }, rates: RATES },
          { epochs: EPOCHS, seeds: SEEDS },
        );
      const [plain, started] = [await judge({}), await judge(config)];
      const level = plain.losses.slice(-WINDOW).reduce((a, b) => a + b, 0) / WINDOW;
      const [slow, fast] = [stepBelow(plain.losses, level, WINDOW), stepBelow(started.losses, level, WINDOW)];
      return {
        figures: {
          "LoRA, test accuracy": plain.testAccuracy,
          [`${title}, test accuracy`]: started.testAccuracy,
          "LoRA, steps": slow ?? "not reached",
          [`${title}, steps`]: fast ?? "not reached",
          "LoRA, learning rate": plain.rate,
          [`${title}, learning rate`]: started.rate,
        },
        holds: fast !== null && slow !== null && fast < slow && started.testAccuracy >= plain.testAccuracy - 0.005,
        note: "Faster: fewer steps. As well: not more than half a point below.",
      };
    },
  };
}
