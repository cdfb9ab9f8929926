import { expect } from "vitest";
import { adaptedSites } from "../../../adapters/adapter.ts";
import { convertToLora } from "../../../adapters/convert-to-lora.ts";
import { mergeAdapter } from "../../../adapters/merge.ts";
import { frozenSite } from "../../../adapters/operands.ts";
import { findSites } from "../../../adapters/sites.ts";
import type { Refusal } from "./capabilities.ts";
import { close, type Trial } from "./trial.ts";

const SEED = 3;

interface Change {
  readonly site: string;
  /** Added to the weight, in PyTorch's layout. */
  readonly weight: Float32Array | null;
  /** Why LoRA cannot express it. */
  readonly refused: string | null;
}

/** What the method's own delta does to every module that it adapts. */
function changesOf({ ground: { model }, method, trained }: Trial): Change[] {
  const plans = adaptedSites(model.graph, findSites(model), trained(SEED)).filter(
    (plan) => plan.method.type === method.type,
  );
  return plans.map(({ site, config, tensors }): Change => {
    const frozen = frozenSite(model.graph, site);
    const delta = method.delta?.(tensors, config, site, frozen) ?? {};
    const added = (which: "weight" | "bias"): Float32Array | null => {
      const change = delta[which];
      if (!change) return null;
      const before = frozen[which]();
      return "add" in change ? change.add : change.replace.map((v, i) => v - (before[i] as number));
    };
    const refused =
      site.kind !== "linear"
        ? `"${site.name}" is of kind ${site.kind}`
        : added("bias")?.some((v) => v !== 0)
          ? `the bias of "${site.name}" changes`
          : null;
    return { site: site.name, weight: refused === null ? added("weight") : null, refused };
  });
}

/** LoRA changes weights of linear modules and nothing else; what a method changes is seen in its delta. */
export function conversionRefusal(trial: Trial): Refusal | null {
  const first = changesOf(trial).find((change) => change.refused !== null);
  return first?.refused ? { code: "NOT_LORA", reason: first.refused } : null;
}

const norm = (values: Float32Array | null): number => Math.hypot(...(values ?? []));

/** At the rank that explains everything the model is the same; at rank 1 the error is what it says. */
export async function checkConversion(trial: Trial): Promise<string | undefined> {
  const { ground, trained, runModel, merged } = trial;
  const adapter = trained(SEED);
  const exact = convertToLora(ground.model, adapter, { explainedVariance: 1 });
  expect(exact.error).toBeLessThan(1e-5);
  close(await runModel(mergeAdapter(ground.model, exact.adapter)), await merged(SEED), 1e-5);
  const small = convertToLora(ground.model, adapter, { rank: 1 });
  const changes = changesOf(trial);
  const saved = new Map(small.sites.map(({ site, error }) => [site, error]));
  for (const plan of adaptedSites(ground.model.graph, findSites(ground.model), small.adapter)) {
    const change = changes.find(({ site }) => site === plan.site.name);
    if (!change?.weight || !plan.method.delta || plan.method.type !== "LORA") continue;
    const made = plan.method.delta(
      plan.tensors,
      plan.config,
      plan.site,
      frozenSite(ground.model.graph, plan.site),
    ).weight;
    const left = made && "add" in made ? change.weight.map((v, i) => v - (made.add[i] as number)) : change.weight;
    expect(saved.get(plan.site.name), plan.site.name).toBeCloseTo(norm(left) / norm(change.weight), 4);
  }
  return undefined;
}
