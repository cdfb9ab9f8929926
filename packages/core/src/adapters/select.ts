import { z } from "zod";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import type { Method } from "../methods/method.ts";
import type { Model } from "../onnx/ir.ts";
import { directOutputs } from "./reach.ts";
import type { Site } from "./site.ts";
import { parameterSites, savedSites, type TargetConfig, targetFields, targetSites } from "./targets.ts";

/** A method's own options with those that choose modules. */
export type AdapterConfig<C extends object = object> = C & TargetConfig;

/** What a caller writes: defaults may be left out. */
export type AdapterConfigInput<C extends object = object> = Partial<C> & TargetConfig;

/**
 * Checks a config and fills in the defaults.
 * @throws PeftError CONFIG_INVALID listing every problem; unknown keys come with the nearest known one
 * @example
 * parseAdapterConfig(lora, { r: 4, targetModules: ["query"] }).alpha; // 8
 */
export function parseAdapterConfig<C extends object>(
  method: Method<C>,
  config: AdapterConfigInput<C>,
): AdapterConfig<C> {
  const own = method.config as unknown as z.ZodObject;
  const schema = z.strictObject({ ...own.shape, ...targetFields });
  return parseConfig(schema, config, `the ${method.type} config`) as AdapterConfig<C>;
}

/** The options of the method itself. */
export function methodConfig<C extends object>(config: AdapterConfig<C>): C {
  const own = Object.entries(config).filter(([key]) => !Object.hasOwn(targetFields, key));
  return Object.fromEntries(own) as C;
}

export interface Selection {
  /** Sites that get the method's parameters. */
  readonly adapted: readonly Site[];
  /** Sites trained as a whole. */
  readonly saved: readonly Site[];
  /** Chosen modules that were left out, and why. */
  readonly skipped: readonly { readonly site: string; readonly reason: string }[];
}

/**
 * The sites that a config chooses in a model.
 * @throws PeftError TARGETS_MISSING, TARGETS_NOT_FOUND, TARGETS_UNSUITABLE, PATTERN
 */
export function selectSites<C extends object>(
  model: Model,
  sites: readonly Site[],
  method: Method<C>,
  config: AdapterConfig<C>,
): Selection {
  const saved = savedSites(sites, config);
  const kinds = method.kinds.join(" and ");
  const reasonAgainst = (site: Site): string | null =>
    method.kinds.includes(site.kind)
      ? (method.refuses?.(site, config) ?? null)
      : `it is of kind ${site.kind}, and ${method.type} adapts ${kinds}`;
  const narrowed = (list: readonly Site[]): readonly Site[] => {
    const kept = method.narrow?.(list, config);
    return kept ? list.filter((site) => kept.includes(site)) : list;
  };
  if (method.wholeModel) return { adapted: wholeModel(sites, method, config), saved, skipped: [] };
  const parameters = parameterSites(sites, config, model.graph);
  for (const site of parameters) {
    const reason = reasonAgainst(site);
    if (reason === null) continue;
    throw new PeftError("TARGETS_UNSUITABLE", `${method.type} cannot adapt "${site.name}": ${reason}.`, {
      details: { skipped: [{ site: site.name, reason }] },
    });
  }
  if (config.targetModules === undefined && parameters.length === 0) {
    const { defaultTargets } = method;
    if (!defaultTargets) {
      throw new PeftError("TARGETS_MISSING", `${method.type} needs targetModules: the modules to adapt.`, {
        hint: 'For example targetModules: ["query", "value"], or "all-linear".',
      });
    }
    const adapted = sites.filter((s) => !saved.includes(s) && reasonAgainst(s) === null && defaultTargets(s, config));
    if (adapted.length === 0 && saved.length === 0) {
      throw new PeftError("TARGETS_NOT_FOUND", `The model has no module that ${method.type} adapts by itself.`, {
        hint: "Give targetModules or modulesToSave.",
      });
    }
    return { adapted: narrowed(adapted), saved, skipped: [] };
  }
  const chosen = targetSites(sites, config, directOutputs(model.graph));
  const asModule = (site: Site): string | null =>
    site.kind === "experts" ? "it is a parameter and no module: targetParameters names it" : null;
  const judged = chosen.map((site) => ({ site, reason: reasonAgainst(site) ?? asModule(site) }));
  const own = [...parameters, ...judged.flatMap(({ site, reason }) => (reason === null ? [site] : []))];
  const adapted = sites.filter((site) => own.includes(site));
  const skipped = judged.flatMap(({ site, reason }) => (reason === null ? [] : [{ site: site.name, reason }]));
  const [first] = skipped;
  if (adapted.length === 0 && first) {
    throw new PeftError("TARGETS_UNSUITABLE", `${method.type} cannot adapt "${first.site}": ${first.reason}.`, {
      hint: `Choose modules of kind ${kinds}.`,
      details: { skipped },
    });
  }
  return { adapted: narrowed(adapted), saved, skipped };
}

/** All fitting sites of a method that adapts them together. */
function wholeModel<C extends object>(sites: readonly Site[], method: Method<C>, config: AdapterConfig<C>): Site[] {
  const given = (
    ["targetModules", "targetParameters", "excludeModules", "layersToTransform", "layersPattern"] as const
  ).find((field) => config[field] !== undefined);
  if (given) {
    throw new PeftError(
      "TARGETS_INVALID",
      `${method.type} takes no ${given}: one tensor serves all blocks of the model.`,
    );
  }
  const fitting = sites.filter((site) => method.kinds.includes(site.kind));
  if (fitting.length === 0) {
    throw new PeftError("TARGETS_NOT_FOUND", `The model has no site of kind ${method.kinds.join(" or ")}.`);
  }
  for (const site of fitting) {
    const reason = site.refusal ?? method.refuses?.(site, config) ?? null;
    if (reason !== null) {
      throw new PeftError("TARGETS_UNSUITABLE", `${method.type} cannot adapt "${site.name}": ${reason}.`, {
        details: { skipped: [{ site: site.name, reason }] },
      });
    }
  }
  return fitting;
}
