import { z } from "zod";
import { createRandom, streamSeed } from "../random/random.ts";
import { roleOf } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { defineMethod, type HookSetup, type StepHooks } from "./method.ts";

// 1. Config
export const dyloraConfig = z.strictObject({
  /** Largest rank; the adapter works at every rank up to it. */
  rMax: z.int().positive().max(65_536).default(8),
  /** The update at rank b is multiplied by alpha / b. */
  alpha: z.number().default(16),
  dropout: z.number().min(0).lt(1).default(0),
  /** "frozen": at rank b only component b learns. "prefix": components 1 to b do. */
  update: z.enum(["frozen", "prefix"]).default("frozen"),
  /** Probability of stopping at each rank of a geometric distribution; null: uniform over 1 to rMax. */
  geometric: z.number().gt(0).lt(1).nullable().default(null),
  /** Rank at which the adapter is evaluated, merged and served; null: rMax. */
  rank: z.int().positive().max(65_536).nullable().default(null),
});
export type DyloraConfig = z.output<typeof dyloraConfig>;

const rankOf = ({ rMax, rank }: DyloraConfig): number => Math.min(rank ?? rMax, rMax);

/** Rank of step `step`: a function of the seed and the step, so that a resumed run draws the same. */
export function drawRank({ rMax, geometric }: DyloraConfig, seed: number | string, step: number): number {
  const random = createRandom(streamSeed(seed, "dylora", step));
  if (geometric === null) return 1 + random.integer(rMax);
  let b = 1;
  while (b < rMax && random.uniform() >= geometric) b++;
  return b;
}

/** alpha / b for the first b components, 0 for the others. */
const maskAt = (b: number, { rMax, alpha }: DyloraConfig): Float32Array =>
  Float32Array.from({ length: rMax }, (_, k) => (k < b ? alpha / b : 0));

/**
 * DyLoRA: one LoRA that can be cut to any rank from 1 to rMax. Valipour et al. 2022, arXiv 2210.07558. Every step draws one rank b for all modules;
 * y += alpha / b · (x·A_bᵀ)·B_bᵀ with the first b rows of A and columns of B. In the main variant only component b gets a gradient, and
 * as in the official code AdamW's momentum and decay still move the others. Parameters: rMax (in + out). `truncateDylora` makes a
 * plain LoRA of any rank.
 */
export const dylora = defineMethod<DyloraConfig>({
  type: "DYLORA",
  paper: "2210.07558",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: dyloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ inFeatures, outFeatures }, { rMax }) => ({
    A: { shape: [rMax, inFeatures], init: kaimingUniform(Math.sqrt(5)) },
    B: { shape: [outFeatures, rMax], init: zeros },
  }),
  shared: (_, config) => ({
    mask: { shape: [config.rMax], init: () => maskAt(rankOf(config), config), trainable: false, saved: false },
  }),
  // 3. Forward
  forward(g, { x, y }, values, { dropout }) {
    const h = g.fusedMatMul(g.dropout(x, dropout), roleOf(values, "A"), { transB: true });
    return g.add(y, g.fusedMatMul(g.mul(h, roleOf(values, "mask")), roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, { inFeatures, outFeatures, fanInFanOut = false }) {
    const b = rankOf(config);
    const { rMax } = config;
    const left = { dims: [outFeatures, b], data: roleOf(tensors, "B").data.filter((_, i) => i % rMax < b) };
    const right = { dims: [b, inFeatures], data: roleOf(tensors, "A").data.subarray(0, b * inFeatures) };
    return { weight: { add: scaledProduct(left, right, config.alpha / b, fanInFanOut) } };
  },
  // 5. Keys
  keys: { A: "lora_A.weight", B: "lora_B.weight" },
  sharedKeys: { mask: "base_model.dylora_mask" },
  hooks: createDyloraHooks,
});

function createDyloraHooks({ config, sites, values, seed }: HookSetup<DyloraConfig>): StepHooks {
  const mask = values.get("base_model.dylora_mask") ?? new Float32Array(0);
  let rank = rankOf(config);
  /** Keeps the gradient of the components that learn at this rank. */
  const keep = (gradient: Float32Array | undefined, componentOf: (i: number) => number): void => {
    if (!gradient) return;
    const first = config.update === "frozen" ? rank - 1 : 0;
    for (let i = 0; i < gradient.length; i++) {
      const k = componentOf(i);
      if (k < first || k >= rank) gradient[i] = 0;
    }
  };
  return {
    beforeStep(step) {
      rank = drawRank(config, seed, step);
      mask.set(maskAt(rank, config));
    },
    beforeUpdate(_, gradients) {
      for (const { site, names } of sites) {
        keep(gradients.get(names["A"] ?? ""), (i) => Math.floor(i / site.inFeatures));
        keep(gradients.get(names["B"] ?? ""), (i) => i % config.rMax);
      }
    },
    /** Evaluations between steps see the whole adapter. */
    onStep() {
      mask.set(maskAt(rankOf(config), config));
    },
  };
}
