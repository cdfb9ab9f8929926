import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { roleOf } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const lilyConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(32),
  /** Neighbouring modules of a group that share one A. */
  strideA: z.int().positive().max(10_000).default(1),
  /** Matrices B that all modules of a group share; at least two, or there is nothing to route. */
  numB: z.int().min(2).max(4096).default(2),
  /** The change is multiplied by it. */
  scaling: z.number().default(1),
  /** false: B starts like A, and a new adapter is not the identity. */
  initWeights: z.boolean().default(true),
});
export type LilyConfig = z.output<typeof lilyConfig>;

/** Modules that share: of one shape, and chosen by the same entry of targetModules, else with the same last part of the name. */
const groupOf = ({ name, target, inFeatures, outFeatures }: SiteShape): string =>
  `${target ?? name.split(".").at(-1)} ${outFeatures}x${inFeatures}`;

/** The modules whose A and B a module uses: the first of its run of neighbours, and the first of its group. */
function leaders(
  site: SiteShape,
  all: readonly SiteShape[],
  strideA: number,
): { readonly A: string; readonly B: string } {
  const group = all.filter((s) => groupOf(s) === groupOf(site)).map(({ name }) => name);
  const at = group.indexOf(site.name);
  return { A: group[at - (at % strideA)] ?? site.name, B: group[0] ?? site.name };
}

/**
 * Lily: LoRA whose matrices are shared across layers and mixed by the input. Zhong et al. 2024, arXiv 2407.09946.
 *   h = x·Aᵀ, w = mean over all tokens of softmax(h·Rᵀ), y += scaling · h·(sum_e w_e B_e).
 * Modules of one kind share the numB matrices B, and strideA neighbours among them one A; each has a router R of its own. Shapes:
 * x [..., in], A [r, in], B [numB · r, out] (B_e is [r, out]), R [numB, r]. A and R start uniform in ±1 / sqrt(width), B at zero.
 * Parameters: r in for every run of neighbours, numB r out for every kind, numB r per module.
 * The mean is over the whole batch, padding included, as in peft: a row's result depends on what it is batched with, and is no product
 * of x with a matrix, so there is no delta.
 */
export const lily = defineMethod<LilyConfig>({
  type: "LILY",
  paper: "2407.09946",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: lilyConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, { r, strideA, numB, initWeights }, all) {
    const { A, B } = leaders(site, all, strideA);
    const drawn = kaimingUniform(Math.sqrt(5));
    return {
      A: { shape: [r, site.inFeatures], init: drawn, tiedTo: A },
      B: { shape: [numB * r, site.outFeatures], init: initWeights ? zeros : drawn, tiedTo: B },
      router: { shape: [numB, r], init: drawn },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { r, numB, scaling }) {
    const h = g.fusedMatMul(x, roleOf(values, "A"), { transB: true }); // [..., r]
    const each = g.softmax(g.fusedMatMul(h, roleOf(values, "router"), { transB: true })); // [..., numB]
    const tokens = x.shape.slice(1).map((_, axis) => axis);
    const weights = g.reshape(g.reduceMean(each, tokens, false), [1, numB]);
    const parts = g.reshape(roleOf(values, "B"), [numB, r * site.outFeatures]);
    const mixed = g.reshape(g.matMul(weights, parts), [r, site.outFeatures]);
    return g.add(y, g.matMul(scaling === 1 ? h : g.mul(h, scaling), mixed));
  },
  // 4. Delta
  delta: null,
  noDelta: "how its matrices B are mixed depends on the tokens",
  noMixedBatch: "its router takes the mean over all rows of the batch",
  // 5. Keys
  keys: { A: "lily_A.weight", B: "lily_B.weight", router: "lily_router.weight" },
  peft: { names: { strideA: "stride_A", numB: "num_B" } },
});
