import { PeftError } from "../errors.ts";
import { full } from "../methods/full.ts";
import { type ByRole, type Method, type ParameterSpec, siteConfig } from "../methods/method.ts";
import { symbolFrom } from "../onnx/dims.ts";
import type { Shape } from "../onnx/ir.ts";
import { type AdapterConfig, methodConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { patternValue, targetOf } from "./targets.ts";

/** A tensor of an adapter in a graph: an input that is fed on every run. */
export interface AdapterParameter {
  /** Name of the graph input: "<site>.<key>". */
  readonly name: string;
  /** Name of the tensor in files, without peft's prefix: another one than `name` where it is that of another module. */
  readonly fileName: string;
  /** Module path; "" for a tensor that all sites share. */
  readonly site: string;
  /** Name within the method ("A", "B", "weight", "bias"). */
  readonly role: string;
  /** Sizes of a new adapter. */
  readonly shape: readonly number[];
  /** Shape of the graph input: free axes are symbols. */
  readonly dims: Shape;
  readonly trainable: boolean;
  readonly spec: ParameterSpec;
  readonly replaces: "weight" | "bias" | null;
}

/** A site with the method and config that hold for it. */
export interface SitePlan {
  readonly site: Site;
  readonly method: Method;
  /** The method's own options, pattern fields applied. */
  readonly config: object;
  /** The site's own tensors. */
  readonly parameters: readonly AdapterParameter[];
  /** Tensors that it uses together with the other sites of the adapter. */
  readonly shared: readonly AdapterParameter[];
}

/**
 * What a method adds at some sites.
 * @throws PeftError UNKNOWN_KEY when a method names a parameter without a key
 */
export function planSites(sites: readonly Site[], method: Method, config: AdapterConfig): SitePlan[] {
  const shapes = sites.map((site) => ({ ...site, ...targetOf(site.name, config) }));
  const shared = planned(method.shared?.(shapes, methodConfig(config)) ?? {}, method, null);
  return sites.map((site, i): SitePlan => {
    const own = siteConfig(method, methodConfig(config), site.name, patternValue);
    const parameters = planned(method.parameters(shapes[i] ?? site, own, shapes), method, site.name);
    return { site, method, config: own, parameters, shared };
  });
}

/** What a method adds at one of several sites, under the site's own config. */
export const planSite = (site: Site, all: readonly Site[], method: Method, config: object): SitePlan => ({
  ...{ site, method, config },
  parameters: planned(method.parameters(site, config, all), method, site.name),
  shared: planned(method.shared?.(all, config) ?? {}, method, null),
});

/** Modules that are trained as a whole. */
export const planSaved = (sites: readonly Site[]): SitePlan[] => planSites(sites, full, {});

function planned(specs: ByRole<ParameterSpec>, method: Method, site: string | null): AdapterParameter[] {
  return Object.entries(specs).map(([role, spec]): AdapterParameter => {
    const dims = spec.shape.map((size, axis) => {
      const free = spec.free?.[axis];
      return free ? symbolFrom(`${site ?? method.type.toLowerCase()}.${free}`) : size;
    });
    const { shape, trainable = true, replaces = null } = spec;
    const name = parameterName(method, site === null ? null : (spec.tiedTo ?? site), role);
    const fileName = parameterName(method, site, role);
    return { name, fileName, site: site ?? "", role, shape, dims, trainable, spec, replaces };
  });
}

/** Name of a tensor in graphs and, without peft's prefix, in files: "<site>.<key>", a shared one's "<key>". */
export function parameterName(method: Method, site: string | null, role: string): string {
  const { sharedKeys, keys } = method;
  const key = site !== null ? keys[role] : typeof sharedKeys === "function" ? sharedKeys(role) : sharedKeys?.[role];
  if (key === undefined) throw new PeftError("UNKNOWN_KEY", `${method.type} has no key for its parameter "${role}".`);
  return site === null ? key : `${site}.${key}`;
}

/** Every tensor of some plans, shared ones once. */
export function parametersOf(plans: readonly SitePlan[]): AdapterParameter[] {
  const all = plans.flatMap((plan) => [...plan.shared, ...plan.parameters]);
  return [...new Map(all.map((parameter) => [parameter.name, parameter])).values()];
}
