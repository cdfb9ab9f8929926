import { z } from "zod";
import { patternOfName } from "../adapters/pattern.ts";
import type { SiteShape } from "../adapters/site.ts";
import type { ComponentSite, Components, DataNeed } from "./calibration.ts";

/** Options of the start "eva"; names and defaults as in peft's EvaConfig. */
export const evaConfig = z.strictObject({
  /** A module gets at most rho times its rank; 1 leaves ranks as they are. */
  rho: z.number().min(1).max(1000).default(2),
  /** Cosine of a component before and after a batch from which on it counts as found. */
  tau: z.number().min(0).max(1).default(0.99),
  /** Leave out rows whose label is `labelMaskValue`, where there is a label for every row. */
  useLabelMask: z.boolean().default(true),
  labelMaskValue: z.int().default(-100),
  /** Divide each component by the root of its singular value. */
  whiten: z.boolean().default(false),
  /** Multiply alpha of a module by its new rank over its old one, so that alpha / r stays. */
  adjustScalingFactors: z.boolean().default(true),
});

/** The part of LoRA's options that the start looks at. */
export interface EvaOptions {
  readonly r: number;
  readonly alpha: number;
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
  readonly evaConfig: z.output<typeof evaConfig>;
}

/** Halves go to the even number, as Python rounds. */
function roundToEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}

export const evaNeed = ({ r, evaConfig: { rho, tau, useLabelMask, labelMaskValue } }: EvaOptions): DataNeed => ({
  kind: "components",
  count: roundToEven(r * rho),
  similarity: tau,
  ignoredLabel: useLabelMask ? labelMaskValue : null,
});

/**
 * EVA's ranks (Paischer et al. 2024, arXiv 2410.07170): all components of all modules compete by the share of variance that they
 * explain at their module, and the sum of the modules' ranks stays. Of modules with one input the first gets the highest rank, as in peft.
 */
export function evaRanks(sites: readonly ComponentSite<EvaOptions>[]): number[] {
  const firsts = sites.map(({ input }) => sites.findIndex((other) => other.input === input));
  // Modules that are the first with their input come first: so ties fall as in peft.
  const order = [...sites.keys()].sort((a, b) => Number(firsts[a] !== a) - Number(firsts[b] !== b) || a - b);
  const budget = sites.reduce((sum, { config }) => sum + config.r, 0);
  const entries = order.flatMap((i) =>
    Array.from((sites[i] as ComponentSite<EvaOptions>).components.explained, (share) => ({ i, share })),
  );
  const ranks = sites.map(() => 0);
  for (const { i } of entries.sort((a, b) => b.share - a.share).slice(0, budget)) ranks[i] = (ranks[i] ?? 0) + 1;
  for (const i of order) {
    const first = firsts[i] as number;
    const [own, theirs] = [ranks[i] ?? 0, ranks[first] ?? 0];
    if (first !== i && own > theirs) [ranks[first], ranks[i]] = [own, theirs];
  }
  return ranks;
}

/** Options with the new ranks: modules of rank 0 are left out. */
export function evaSettled(
  config: EvaOptions,
  sites: readonly ComponentSite<EvaOptions>[],
  others: readonly { readonly site: SiteShape; readonly config: EvaOptions }[],
): Pick<EvaOptions, "rankPattern" | "alphaPattern"> & { readonly targetModules?: string[] } {
  const ranks = evaRanks(sites);
  const given = [
    ...sites.map(({ site, config: own }, i) => {
      const r = ranks[i] ?? 0;
      return { name: site.name, r, alpha: config.evaConfig.adjustScalingFactors ? (own.alpha * r) / own.r : own.alpha };
    }),
    ...others.map(({ site, config: own }) => ({ name: site.name, r: own.r, alpha: own.alpha })),
  ];
  const kept = given.filter(({ r }) => r > 0).sort((a, b) => b.name.length - a.name.length);
  const pattern = (value: (entry: (typeof kept)[number]) => number, usual: number): Record<string, number> =>
    Object.fromEntries(
      kept.filter((entry) => value(entry) !== usual).map((entry) => [patternOfName(entry.name), value(entry)]),
    );
  return {
    rankPattern: pattern(({ r }) => r, config.r),
    alphaPattern: pattern(({ alpha }) => alpha, config.alpha),
    ...(kept.length < given.length ? { targetModules: given.filter(({ r }) => r > 0).map(({ name }) => name) } : {}),
  };
}

/**
 * A [r, in]: the leading components of the module's input, with B = 0. peft whitens in place and so divides once more for every further
 * module of the same input; here each is divided once.
 */
export function evaStart(
  { directions, singularValues }: Components,
  { r, evaConfig: { whiten } }: EvaOptions,
): Float32Array {
  const { columns, data } = directions;
  return Float32Array.from({ length: r * columns }, (_, at) => {
    const value = data[at] as number;
    return whiten ? value / Math.sqrt(singularValues[Math.floor(at / columns)] as number) : value;
  });
}
