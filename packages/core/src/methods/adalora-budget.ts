import { PeftError } from "../errors.ts";
import type { AdaloraConfig } from "./adalora.ts";
import type { HookSetup, HookSite, StepHooks } from "./step-hooks.ts";

/** Smoothed sensitivity |p · dp| of a tensor's entries, and its smoothed variation. */
interface Importance {
  readonly sensitivity: Float32Array;
  readonly uncertainty: Float32Array;
}

/** Total number of ranks that step t may keep: the first budget, then a cubic decay, then the last one. */
export function budgetAt(
  t: number,
  { first, last, total, tinit, tfinal }: { first: number; last: number; total: number; tinit: number; tfinal: number },
): number {
  if (t <= tinit) return first;
  if (t > total - tfinal) return last;
  const left = 1 - (t - tinit) / (total - tfinal - tinit);
  return Math.trunc((first - last) * left ** 3 + last);
}

/** Mean over groups: entries of row k of A, or of column k of B. */
function meanByRank(scores: Float64Array, r: number, rankOf: (i: number) => number): Float64Array {
  const sums = new Float64Array(r);
  scores.forEach((score, i) => {
    const k = rankOf(i);
    sums[k] = (sums[k] as number) + score;
  });
  return sums.map((sum) => (sum * r) / scores.length);
}

/**
 * AdaLoRA's allocation of ranks (Zhang et al. 2023, section 3.2; as in `peft`). After every update s = |p · dp| of each entry is smoothed,
 * I <- b1 I + (1 - b1) s, and so is its variation, U <- b2 U + (1 - b2) |s - I|; the score of a rank is that of its E plus the means over its row of A and
 * column of B of I · U. Every deltaT steps the E of the lowest ranks of the whole model become zero, down to the budget; they may
 * come back until the last tfinal steps, in which the mask of the step before stays.
 */
export function createBudget({ config, sites, values, totalSteps }: HookSetup<AdaloraConfig>): StepHooks {
  const total = config.totalStep ?? totalSteps;
  if (config.tinit + config.tfinal >= total) {
    throw new PeftError(
      "CONFIG_INVALID",
      `tinit ${config.tinit} and tfinal ${config.tfinal} leave nothing of ${total} steps for allocation.`,
    );
  }
  const first = sites.length * config.initR;
  const last = sites.length * config.targetR;
  const tensorOf = (name: string): Float32Array => values.get(name) ?? missing(name);
  const importance = new Map<string, Importance>(
    sites.flatMap(({ names }) =>
      Object.values(names).map((name) => {
        const size = tensorOf(name).length;
        return [name, { sensitivity: new Float32Array(size), uncertainty: new Float32Array(size) }] as const;
      }),
    ),
  );
  /** 1 where a rank is kept, site after site; what the last steps hold on to. */
  const kept = new Float32Array(first).fill(1);

  const observe = (gradients: ReadonlyMap<string, Float32Array>): void => {
    for (const [name, { sensitivity, uncertainty }] of importance) {
      const [p, dp] = [tensorOf(name), gradients.get(name) ?? missing(name)];
      for (let i = 0; i < p.length; i++) {
        const s = Math.abs((p[i] as number) * (dp[i] as number));
        const mean = config.beta1 * (sensitivity[i] as number) + (1 - config.beta1) * s;
        sensitivity[i] = mean;
        uncertainty[i] = config.beta2 * (uncertainty[i] as number) + (1 - config.beta2) * Math.abs(s - mean);
      }
    }
  };
  const scoresOf = (name: string): Float64Array => {
    const { sensitivity, uncertainty } = importance.get(name) ?? missing(name);
    return Float64Array.from(sensitivity, (s, i) => s * (uncertainty[i] as number));
  };
  const rankScores = ({ names, site }: HookSite<AdaloraConfig>): Float64Array => {
    const { A = "", B = "", E = "" } = names;
    const r = config.initR;
    const rows = meanByRank(scoresOf(A), r, (i) => Math.floor(i / site.inFeatures));
    const columns = meanByRank(scoresOf(B), r, (i) => i % r);
    return scoresOf(E).map((score, k) => score + (rows[k] as number) + (columns[k] as number));
  };
  const allocate = (budget: number): void => {
    const scores = Float64Array.from(sites.flatMap((site) => [...rankScores(site)]));
    const dropped = first - budget;
    const threshold = dropped > 0 ? (scores.slice().sort()[dropped - 1] as number) : Number.NEGATIVE_INFINITY;
    scores.forEach((score, i) => {
      kept[i] = score > threshold ? 1 : 0;
    });
  };
  const applyMask = (): void => {
    sites.forEach(({ names }, s) => {
      const e = tensorOf(names["E"] ?? "");
      for (let k = 0; k < e.length; k++) e[k] = (e[k] as number) * (kept[s * config.initR + k] as number);
    });
  };
  return {
    onStep(step, gradients) {
      const t = step + 1;
      const isFinal = t > total - config.tfinal;
      if (!isFinal) observe(gradients);
      const isDue = t > config.tinit && (t % config.deltaT === 0 || t === total - config.tfinal);
      if (!isFinal && isDue) {
        const at = t === total - config.tfinal ? total + 1 : t;
        allocate(budgetAt(at, { first, last, total, tinit: config.tinit, tfinal: config.tfinal }));
      }
      if (isFinal || isDue) applyMask();
    },
    state() {
      const entries = [...importance].flatMap(([name, { sensitivity, uncertainty }]) => [
        [`${name}:sensitivity`, sensitivity] as const,
        [`${name}:uncertainty`, uncertainty] as const,
      ]);
      return { ...Object.fromEntries(entries), "adalora:kept": kept };
    },
    restore(state) {
      for (const [name, { sensitivity, uncertainty }] of importance) {
        sensitivity.set(state[`${name}:sensitivity`] ?? missing(name));
        uncertainty.set(state[`${name}:uncertainty`] ?? missing(name));
      }
      kept.set(state["adalora:kept"] ?? missing("adalora:kept"));
    },
  };
}

function missing(name: string): never {
  throw new PeftError("STATE_MISMATCH", `AdaLoRA's allocation has no values for "${name}".`);
}
