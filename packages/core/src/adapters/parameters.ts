import { PeftError } from "../errors.ts";
import { full } from "../methods/full.ts";
import type { Init } from "../methods/init.ts";
import { type ByRole, type Method, type ParameterSpec, siteConfig } from "../methods/method.ts";
import { symbolFrom } from "../onnx/dims.ts";
import type { Graph, Shape } from "../onnx/ir.ts";
import { frozenSite } from "./operands.ts";
import { type AdapterConfig, methodConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { patternValue } from "./targets.ts";

/** A tensor of an adapter in a graph: an input that is fed on every run. */
export interface AdapterParameter {
  /** Name of the graph input and, after peft's prefix, of the tensor in a file: "<site>.<key>". */
  readonly name: string;
  /** Module path. */
  readonly site: string;
  /** Name within the method ("A", "B", "weight", "bias"). */
  readonly role: string;
  /** Sizes of a new adapter. */
  readonly shape: readonly number[];
  /** Shape of the graph input: free axes are symbols. */
  readonly dims: Shape;
  readonly trainable: boolean;
  readonly init: Init;
  readonly replaces: "weight" | "bias" | null;
}

/** A site with the method and config that hold for it. */
export interface SitePlan {
  readonly site: Site;
  readonly method: Method;
  /** The method's own options, pattern fields applied. */
  readonly config: object;
  readonly specs: ByRole<ParameterSpec>;
  readonly parameters: readonly AdapterParameter[];
}

/** What a method adds at one site. @throws PeftError UNKNOWN_KEY when a method names a parameter without a key. */
export function planSite(graph: Graph, site: Site, method: Method, config: AdapterConfig): SitePlan {
  const own = siteConfig(method, methodConfig(config), site.name, patternValue);
  const specs = method.parameters(site, own, frozenSite(graph, site));
  const parameters = Object.entries(specs).map(([role, spec]): AdapterParameter => {
    const name = parameterName(method, site.name, role);
    const dims = spec.shape.map((size, axis) => {
      const free = spec.free?.[axis];
      return free ? symbolFrom(`${site.name}.${free}`) : size;
    });
    const { shape, init, trainable = true, replaces = null } = spec;
    return { name, site: site.name, role, shape, dims, trainable, init, replaces };
  });
  return { site, method, config: own, specs, parameters };
}

/** A module that is trained as a whole. */
export const planSaved = (graph: Graph, site: Site): SitePlan => planSite(graph, site, full, {});

export function parameterName(method: Method, site: string, role: string): string {
  const key = method.keys[role];
  if (key === undefined) throw new PeftError("UNKNOWN_KEY", `${method.type} has no key for its parameter "${role}".`);
  return `${site}.${key}`;
}
