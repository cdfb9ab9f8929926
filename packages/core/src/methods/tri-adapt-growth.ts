import { PeftError } from "../errors.ts";
import { copyCorner } from "../optim/grown-entries.ts";
import { createRandom, type Random, streamSeed } from "../random/random.ts";
import { normal, zeros } from "./init.ts";
import type { Growth, HookSetup, HookSite, StepHooks } from "./step-hooks.ts";
import { keepTriangle, normPerBlock, startTriangle } from "./tri-adapt-blocks.ts";
import { blocksOf, incrementOf, sizesOf, type TriAdaptConfig, triAdaptScale } from "./tri-adapt-config.ts";

/** Where growth stands: step t from 1, the sum of ranks now and at the end. */
export interface GrowthState {
  readonly t: number;
  readonly warmup: number;
  readonly total: number;
  readonly now: number;
  readonly target: number;
}

/**
 * How many modules grow: with q = (t - warmup) / (T - warmup) the linear rule takes a share q of the missing ranks, the non-linear one
 * that number to the power of q; at least one module, at most all.
 */
export function growingCount(
  { t, warmup, total, now, target }: GrowthState,
  growth: TriAdaptConfig["growth"],
  sites: number,
): number {
  const q = (t - warmup) / (total - warmup);
  const missing = target - now;
  const count = growth === "linear" ? missing * q : Math.exp(q * Math.log(missing));
  return Math.min(Math.max(Math.trunc(count), 1), sites);
}

/** The modules whose score is among the `count` largest; equal scores grow together. */
export function growingSites(scores: readonly number[], count: number): number[] {
  const threshold = [...scores].sort((a, b) => b - a)[count - 1] ?? Number.POSITIVE_INFINITY;
  return scores.flatMap((score, i) => (score >= threshold ? [i] : []));
}

/** Whether ranks are looked at after step t. */
export const isGrowthDue = ({ t, warmup, now, target }: GrowthState, interval: number): boolean =>
  t > warmup && t % interval === 0 && now < target;

/**
 * Ranks that each of the chosen modules gets: the increment, or with a cap what is left of the target, larger scores first.
 */
export function shares(
  chosen: readonly number[],
  scores: readonly number[],
  { increment, left }: { readonly increment: number; readonly left: number },
): ReadonlyMap<number, number> {
  const order = [...chosen].sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
  let rest = left;
  return new Map(
    order.flatMap((site) => {
      const share = Math.min(increment, rest);
      rest -= share;
      return share > 0 ? [[site, share] as const] : [];
    }),
  );
}

const NORMS = "triadaptlora:norms";

/**
 * The growth of TriAdaptLoRA. After a step that is due, v = |C|_F / blocks of every module is compared with v at the last look; the modules
 * in which it rose most get a block (of several, where blocks have size 1), see {@link growingCount}. New values come from (seed, step,
 * module). Gradients of L and U outside the pattern of the blocks are cleared.
 */
export function createGrowth({ config, sites, values, totalSteps, seed }: HookSetup<TriAdaptConfig>): StepHooks {
  const total = config.totalSteps ?? totalSteps;
  const target = config.targetTotalRank ?? config.referenceRank * sites.length;
  if (config.warmup >= total && total > 0) {
    throw new PeftError("CONFIG_INVALID", `warmup ${config.warmup} leaves nothing of ${total} steps for growth.`);
  }
  const tensorOf = (site: HookSite<TriAdaptConfig>, role: string): Float32Array =>
    values.get(site.names[role] ?? "") ?? missing(site.names[role] ?? role);
  const rankOf = (site: HookSite<TriAdaptConfig>): number => tensorOf(site, "A").length / site.site.inFeatures;
  const normOf = (site: HookSite<TriAdaptConfig>): number =>
    Math.fround(normPerBlock(tensorOf(site, "L"), tensorOf(site, "U"), blocksOf(rankOf(site), config).length));
  /** v of every module at the last look. */
  const norms = Float32Array.from(sites, normOf);

  const look = (step: number): number[] => {
    if (config.choose === "random") {
      const random = createRandom(streamSeed(seed, "triadaptlora", step));
      return sites.map(() => random.uniform());
    }
    return sites.map((site, i) => {
      const now = normOf(site);
      const score = now - (norms[i] as number);
      norms[i] = now;
      return score;
    });
  };
  return {
    beforeUpdate(_, gradients) {
      for (const site of sites) {
        const ends = blocksOf(rankOf(site), config);
        for (const part of ["L", "U"] as const) {
          const gradient = gradients.get(site.names[part] ?? "");
          if (gradient) keepTriangle(gradient, ends, part);
        }
      }
    },
    grow(step) {
      const now = sites.reduce((sum, site) => sum + rankOf(site), 0);
      const state = { t: step + 1, warmup: config.warmup, total, now, target };
      if (!isGrowthDue(state, config.interval)) return [];
      const scores = look(step);
      const chosen = growingSites(scores, growingCount(state, config.growth, sites.length));
      const left = config.capTotal ? target - now : Number.POSITIVE_INFINITY;
      const added = shares(chosen, scores, { increment: incrementOf(config), left });
      return sites.flatMap((site, i) => {
        const ranks = added.get(i);
        if (ranks === undefined) return [];
        const random = (role: string): Random =>
          createRandom(streamSeed(seed, "triadaptlora", step, site.names[role] ?? ""));
        return enlarged(site, rankOf(site), ranks, config, (role) => tensorOf(site, role), random);
      });
    },
    state: () => ({ [NORMS]: norms }),
    restore(state) {
      norms.set(state[NORMS] ?? missing(NORMS));
    },
  };
}

/** The tensors of a module with `added` ranks more. Its scale is set. */
function enlarged(
  { site, names }: HookSite<TriAdaptConfig>,
  rank: number,
  added: number,
  config: TriAdaptConfig,
  tensorOf: (role: string) => Float32Array,
  random: (role: string) => Random,
): Growth[] {
  const { inFeatures, outFeatures } = site;
  const r = rank + added;
  const ends = blocksOf(r, config);
  const factor = config.rescaleOnGrowth ? triAdaptScale(rank, config) / triAdaptScale(r, config) : 1;
  const base = (): Float32Array => missing("a base weight");
  const a = normal(0.02)({ shape: [r, inFeatures], random: random("A"), base });
  const b = (config.init === "eye" ? zeros : normal(0.02))({ shape: [outFeatures, r], random: random("B"), base });
  const c = (part: "L" | "U"): Float32Array => {
    const fresh = new Float32Array(r * r);
    startTriangle(fresh, ends, rank, part, sizesOf(config), random(part));
    const old = tensorOf(part).map((v) => v * factor);
    return copyCorner(old, [rank, rank], fresh, [r, r]);
  };
  const grown = [
    { role: "A", dims: [r, inFeatures], data: copyCorner(tensorOf("A"), [rank, inFeatures], a, [r, inFeatures]) },
    { role: "B", dims: [outFeatures, r], data: copyCorner(tensorOf("B"), [outFeatures, rank], b, [outFeatures, r]) },
    { role: "L", dims: [r, r], data: c("L") },
    { role: "U", dims: [r, r], data: c("U") },
  ];
  tensorOf("scale")[0] = triAdaptScale(r, config);
  return grown.map(({ role, dims, data }) => ({
    ...{ name: names[role] ?? "", dims, data },
    learningRate: config.growLearningRate,
  }));
}

function missing(name: string): never {
  throw new PeftError("STATE_MISMATCH", `TriAdaptLoRA's growth has no values for "${name}".`);
}
