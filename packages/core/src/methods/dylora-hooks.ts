import { createRandom, streamSeed } from "../random/random.ts";
import type { DyloraConfig } from "./dylora.ts";
import type { HookSetup, StepHooks } from "./step-hooks.ts";

/** The rank of evaluation. */
export const rankOf = ({ rMax, rank }: DyloraConfig): number => Math.min(rank ?? rMax, rMax);

/**
 * Rank of step `step`, a multiple of the block size: a function of the seed, the step and, with `perSite`, the module, so
 * that a resumed run draws the same.
 */
export function drawRank(config: DyloraConfig, seed: number | string, step: number, site = ""): number {
  const { rMax, rankDistribution: ranks, blockSize } = config;
  const blocks = rMax / blockSize;
  const stream = config.perSite ? streamSeed(seed, "dylora", step, site) : streamSeed(seed, "dylora", step);
  const random = createRandom(stream);
  if (ranks === "uniform") return blockSize * (1 + random.integer(blocks));
  let b = 1;
  if (Array.isArray(ranks)) {
    let rest = random.uniform() * ranks.reduce((a, c) => a + c, 0);
    while (b < blocks && rest >= (ranks[b - 1] as number)) rest -= ranks[b++ - 1] as number;
  } else while (b < blocks && random.uniform() >= ranks.geometric) b++;
  return blockSize * b;
}

/** The factor of the first b components, 0 for the others. */
export const maskAt = (b: number, rMax: number, factor: number): Float32Array =>
  Float32Array.from({ length: rMax }, (_, k) => (k < b ? factor : 0));

/**
 * DyLoRA's work between steps: a rank for every step, set through the mask on the rank's axis, so that no graph is rebuilt; gradients
 * of components that do not learn are zero, which is exact because taking a parameter out of differentiation changes nothing else.
 */
export function createDyloraHooks({ config, sites, values, seed }: HookSetup<DyloraConfig>): StepHooks {
  const { rMax, blockSize, alpha, update, convention, optimizerMask } = config;
  const modules = sites.map(({ site, names }) => ({
    site,
    names,
    mask: values.get(names["mask"] ?? "") ?? new Float32Array(0),
    rank: rankOf(config),
  }));
  const evaluated = maskAt(rankOf(config), rMax, alpha / rankOf(config));
  /** Calls `f` with every entry of A and B whose component does not learn at the module's rank. */
  const forStill = (f: (name: string, i: number) => void): void => {
    for (const { site, names, rank } of modules) {
      const first = update === "frozen" ? rank - blockSize : 0;
      const still = (k: number): boolean => k < first || k >= rank;
      const [a = "", b = ""] = [names["A"], names["B"]];
      for (let i = 0; i < rMax * site.inFeatures; i++) if (still(Math.floor(i / site.inFeatures))) f(a, i);
      for (let i = 0; i < rMax * site.outFeatures; i++) if (still(i % rMax)) f(b, i);
    }
  };
  const held = new Map(
    (optimizerMask ? modules : []).flatMap(({ site, names }) => [
      [names["A"] ?? "", new Uint8Array(rMax * site.inFeatures)] as const,
      [names["B"] ?? "", new Uint8Array(rMax * site.outFeatures)] as const,
    ]),
  );
  return {
    beforeStep(step) {
      for (const module of modules) {
        module.rank = drawRank(config, seed, step, module.site.name);
        const units = convention === "lycoris" ? module.rank / blockSize : module.rank;
        module.mask.set(maskAt(module.rank, rMax, alpha / units));
      }
    },
    beforeUpdate(_, gradients) {
      for (const entries of held.values()) entries.fill(0);
      forStill((name, i) => {
        const gradient = gradients.get(name);
        if (gradient) gradient[i] = 0;
        const entries = held.get(name);
        if (entries) entries[i] = 1;
      });
    },
    held: () => held,
    /** Evaluations between steps see the adapter at its own rank. */
    onStep() {
      for (const { mask } of modules) mask.set(evaluated);
    },
  };
}
