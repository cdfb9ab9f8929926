import { type AdaptedGraph, adapterValues, trainableValues } from "../adapters/inject.ts";
import type { SitePlan } from "../adapters/parameters.ts";
import { methodConfig } from "../adapters/select.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import { full } from "../methods/full.ts";
import type { HookSite } from "../methods/step-hooks.ts";
import type { Value } from "../onnx/ir.ts";
import type { HookPlan } from "./method-hooks.ts";
import { type Penalty, withPenalties } from "./penalty.ts";
import { buildTrainingProgram, type ProgramExtras, type TrainingProgram } from "./program.ts";

export interface AdapterProgramOptions extends Pick<ProgramExtras, "int8"> {
  /** Terms of the loss beside the task's and the method's own, {@link densityPenalty} for instance. */
  readonly penalties?: readonly Penalty[];
}

/**
 * Completes a model with an adapter into a training program: the method's penalty and those that are asked for are added to
 * the loss, the method's hooks and its untrained tensors go along.
 * @throws PeftError as `differentiate`
 * @example
 * const adapted = injectAdapter(model, { method: adalora, config, training: true });
 * const program = buildAdapterProgram(adapted, task.loss(taskGraph(adapted)));
 */
export function buildAdapterProgram(
  adapted: AdaptedGraph,
  loss: LossParts,
  { int8, penalties = [] }: AdapterProgramOptions = {},
): TrainingProgram {
  const { g } = adapted;
  return buildTrainingProgram(g, adapterLoss(adapted, loss, penalties), trainableValues(adapted), {
    state: fixedValues(adapted),
    ...adapterHooks(adapted),
    ...(int8 ? { int8 } : {}),
  });
}

/** A task's loss with the method's own penalty and others. */
export const adapterLoss = (adapted: AdaptedGraph, loss: LossParts, penalties: readonly Penalty[] = []): LossParts =>
  withPenalties(adapted, loss, [ownPenalty, ...penalties]);

/** Tensors of an adapter that are fed and not trained. */
export function fixedValues(adapted: AdaptedGraph): Value[] {
  const trained = new Set(trainableValues(adapted).map((v) => v.name));
  return adapterValues(adapted).filter((v) => !trained.has(v.name));
}

/** The method's work between steps, where it has some. */
export const adapterHooks = (adapted: AdaptedGraph): { readonly hooks?: HookPlan } =>
  adapted.method.hooks ? { hooks: hookPlan(adapted) } : {};

/** The plans of the method or of its parts, not those of modules that are trained as a whole. */
const ownPlans = ({ plans, method }: AdaptedGraph): SitePlan[] =>
  plans.filter((plan) => (method.parts ? plan.method !== full : plan.method === method));

/** A site of the model without its graph. */
const hookSite = ({ site, config, parameters, shared, method }: SitePlan): HookSite<object> => {
  const { name, kind, inFeatures, outFeatures, weightShape, hasBias, fanInFanOut } = site;
  return {
    site: { name, kind, inFeatures, outFeatures, weightShape, hasBias, fanInFanOut },
    config,
    names: Object.fromEntries([...shared, ...parameters].map((p) => [p.role, p.name])),
    method: method.type,
  };
};

const hookPlan = (adapted: AdaptedGraph): HookPlan => ({
  type: adapted.method.type,
  config: methodConfig(adapted.config),
  sites: ownPlans(adapted).map(hookSite),
});

/** The regulariser of the method itself. */
const ownPenalty: Penalty = {
  name: "penalty",
  build(adapted) {
    const { g, method } = adapted;
    const sites = ownPlans(adapted).map((plan) => {
      const site = hookSite(plan);
      return {
        site,
        values: Object.fromEntries(Object.entries(site.names).map(([role, name]) => [role, g.value(name)])),
      };
    });
    return method.penalty?.(g, sites, methodConfig(adapted.config)) ?? null;
  },
};
