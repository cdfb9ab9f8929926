import type { Claim } from "../claim.ts";
import { overSeeds } from "../methods/held-out.ts";
import { mean } from "../planted-layer.ts";

const SIZES = { train: 400, validation: 200, test: 600 };

export const claim: Claim = {
  id: "loca-definitions",
  paper: "2502.06820",
  statement: "On a task learned places do at least as well as fixed ones.",
  setup:
    "WordNet definitions, 400 to train on, 300 steps of four, three seeds, query and value, 500 coefficients, learning rate 0.01.",
  async run(context) {
    const task = (learnLocations: boolean) =>
      overSeeds(
        context,
        {
          type: "LOCA",
          config: { nFrequency: 500, scaling: 100, learnLocations, targetModules: ["query", "value"] },
          ...{ epochs: 3, batchSize: 4 },
        },
        { rates: [1e-2], seeds: [1, 2, 3], sizes: SIZES },
      );
    const [moving, still] = [await task(true), await task(false)];
    const [a, b] = [mean(moving.accuracies), mean(still.accuracies)];
    return {
      figures: { "learned places, accuracy": a, "fixed places, accuracy": b },
      holds: a >= b - 0.005,
      note: "Asked for: not more than half a point below.",
    };
  },
};
