import { initialParameters, parameterTensors } from "../../adapters/adapter.ts";
import { type AdaptedGraph, type InjectOptions, injectAdapter } from "../../adapters/inject.ts";
import { planSites, type SitePlan } from "../../adapters/parameters.ts";
import { PeftError } from "../../errors.ts";
import type { Method } from "../../methods/method.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";

/** A module that an adapter will attach to, in a graph under construction. */
export interface ProbedSite {
  /** What the method plans for it. */
  readonly plan: SitePlan;
  /** Rows that it is applied to, those of all its uses: [rows, in]. */
  readonly x: Value;
  /** Its results, one per use. */
  readonly outputs: readonly Value[];
}

export interface ProbedGraph {
  /** The model with nothing added at the sites; modules of `modulesToSave` are inputs. */
  readonly adapted: AdaptedGraph;
  readonly sites: readonly ProbedSite[];
  /** Values of its inputs that are no feeds. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
}

/** The model as `injectAdapter` would adapt it, with the method's forward left out and what it would get kept at hand. */
export function probeSites<C extends object>(model: Model, options: InjectOptions<C>): ProbedGraph {
  const { method } = options;
  const seen = new Map<string, Value[]>();
  const probe: Method<C> = {
    ...method,
    parameters: () => ({}),
    forward(_, { x, y, site }) {
      seen.set(site.name, [...(seen.get(site.name) ?? []), x]);
      return y;
    },
  };
  for (const part of ["shared", "rowInputs", "derive", "virtualTokens", "attend", "start", "penalty", "hooks"] as const)
    delete probe[part];
  const adapted = injectAdapter(model, { ...options, method: probe });
  const { g } = adapted;
  const chosen = adapted.plans.filter((plan) => (plan.method as unknown) === probe).map(({ site }) => site);
  const plans = planSites(chosen, method as unknown as Method, adapted.config);
  const sites = plans.map((plan): ProbedSite => {
    const inputs = (seen.get(plan.site.name) ?? []).map((x) => g.toMatrix(x));
    if (inputs.length === 0) {
      throw new PeftError("UNKNOWN_VALUE", `The module "${plan.site.name}" is used nowhere.`);
    }
    return { plan, x: g.concat(inputs, 0), outputs: plan.site.uses.map(({ output }) => g.value(output)) };
  });
  const parameters = parameterTensors(adapted.parameters, initialParameters(adapted, 0));
  return { adapted, sites, parameters };
}
