import type { Claim } from "../claim.ts";
import { gaussian, mean, plus, trainPlanted } from "../planted-layer.ts";

const SIZE = 48;
const SEEDS = [1, 2, 3];
const RATES = [1e-4, 3e-4, 1e-3, 3e-3];
/** KronA (4, 4) has 160 values, LoRA r 2 192; KronA (4, 8) two thirds of that. */
const systems = {
  KronA: { type: "KRONA", config: { a1: 4, a2: 4 } },
  "smaller KronA": { type: "KRONA", config: { a1: 4, a2: 8 } },
  LoRA: { type: "LORA", config: { r: 2, alpha: 2 } },
} as const;

export const claim: Claim = {
  id: "krona-rates-planted",
  paper: "2402.17412",
  statement: "How far a Kronecker product gets depends less on the learning rate than how far LoRA gets.",
  setup:
    "One layer 48 x 48 whose change is a random matrix of full rank; AdamW, 500 steps, learning rates 0.0001 to 0.003, three seeds; KronA (4, 4) and (4, 8), LoRA r 2. Share of the squared change that is left.",
  async run(context) {
    const figures: Record<string, number> = {};
    const ratios: Record<string, number> = {};
    for (const [name, setting] of Object.entries(systems)) {
      const left: number[] = [];
      for (const learningRate of RATES) {
        const found: number[] = [];
        for (const seed of SEEDS) {
          const weight = gaussian(SIZE, SIZE, `weight ${seed}`, 0.1);
          const target = plus(weight, gaussian(SIZE, SIZE, `change ${seed}`, 0.02));
          const result = await context.remember(`${name}, rate ${learningRate}, seed ${seed}`, () =>
            trainPlanted({ weight, target, ...setting, learningRate, steps: 500, seed }),
          );
          found.push(result.residual);
          figures[`${name}, trained values`] = result.parameters;
        }
        left.push(mean(found));
        figures[`${name}, learning rate ${learningRate}`] = mean(found);
      }
      ratios[name] = Math.max(...left) / Math.min(...left);
      figures[`${name}, worst over best`] = ratios[name];
    }
    return {
      figures,
      holds: (ratios["KronA"] as number) < (ratios["LoRA"] as number),
      note: "Asked for: a smaller ratio of the worst to the best than LoRA's. A random matrix favours neither; the paper's runs on images belong to the package for diffusion.",
    };
  },
};
