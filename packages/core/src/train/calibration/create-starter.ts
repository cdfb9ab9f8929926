import { frozenSite } from "../../adapters/operands.ts";
import { planSites, type SitePlan } from "../../adapters/parameters.ts";
import type { AdapterConfig } from "../../adapters/select.ts";
import type { Site } from "../../adapters/site.ts";
import { findSites } from "../../adapters/sites.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import type { SiteData } from "../../methods/calibration.ts";
import type { FrozenSite, Method } from "../../methods/method.ts";
import type { Graph, Model } from "../../onnx/ir.ts";
import { createRandom, streamSeed } from "../../random/random.ts";
import type { CalibrateStartOptions } from "./calibrate-start.ts";

/** Start values, by tensor, of the modules that there is data for. */
export type Starter = (data: ReadonlyMap<string, SiteData>, config: AdapterConfig) => Map<string, Float32Array>;

/** Calls a method's `start` with what was collected of the modules of a model. */
export function createStarter<C extends object>(
  model: Model,
  { method: own, original, naming = "file", seed = 42 }: CalibrateStartOptions<C>,
): Starter {
  const method = own as unknown as Method;
  const sitesOf = (of: Model): { readonly graph: Graph; readonly sites: ReadonlyMap<string, Site> } => {
    const prepared = prepareModel(of);
    return { graph: prepared.graph, sites: new Map(findSites(prepared, { naming }).map((site) => [site.name, site])) };
  };
  const base = sitesOf(model);
  const source = original ? sitesOf(original) : null;
  const originalOf = (name: string): FrozenSite | undefined => {
    const site = source?.sites.get(name);
    return source && site ? frozenSite(source.graph, site) : undefined;
  };
  const startOf = ({ site, config, parameters }: SitePlan, data: SiteData): [string, Float32Array][] => {
    const from = originalOf(site.name);
    const started = method.start?.({
      ...{ site, config, data, frozen: frozenSite(base.graph, site) },
      random: createRandom(streamSeed(seed, "init", site.name)),
      ...(from ? { original: from } : {}),
    });
    return parameters.flatMap(({ name, role }) => {
      const values = started?.[role];
      return values ? [[name, values] as [string, Float32Array]] : [];
    });
  };
  return (data, config) => {
    const sites = [...data.keys()].flatMap((name) => base.sites.get(name) ?? []);
    const plans = planSites(sites, method, config);
    return new Map(plans.flatMap((plan) => startOf(plan, data.get(plan.site.name) ?? {})));
  };
}
