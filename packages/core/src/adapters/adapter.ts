import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { full } from "../methods/full.ts";
import type { AdapterTensor, ByRole } from "../methods/method.ts";
import { methodOf } from "../methods/registry.ts";
import type { Graph } from "../onnx/ir.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import type { AdaptedGraph } from "./inject.ts";
import { frozenSite } from "./operands.ts";
import { planSaved, planSite, type SitePlan } from "./parameters.ts";
import type { AdapterConfig } from "./select.ts";
import type { Site } from "./site.ts";

/** A trained (or fresh) adapter: its method, its options and its tensors by name ("<module>.<key>"). Plain data. */
export interface Adapter {
  /** `peft_type`. */
  readonly type: string;
  readonly config: AdapterConfig;
  readonly tensors: ReadonlyMap<string, AdapterTensor>;
  /** Fields of the file it was read from that this version does not interpret; written back as they were. */
  readonly otherFields?: Readonly<Record<string, unknown>>;
}

/**
 * Start values of all parameters, by name. Each parameter draws from a stream of its own name, so adding a module does
 * not change the others.
 * @example
 * const values = initialParameters(adapted, 42);
 */
export function initialParameters(adapted: AdaptedGraph, seed: number | string): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  for (const { site, parameters } of adapted.plans) {
    const frozen = frozenSite(adapted.model.graph, site);
    for (const { name, shape, init, replaces } of parameters) {
      const base = (): Float32Array => {
        if (replaces === null) throw new PeftError("PARAMETER", `"${name}" replaces nothing and has no base values.`);
        return frozen[replaces]();
      };
      values.set(name, init({ shape, random: createRandom(streamSeed(seed, "init", name)), base }));
    }
  }
  return values;
}

/**
 * An adapter out of the parameters of an adapted graph.
 * @throws PeftError PARAMETER when values are missing or of the wrong length
 */
export function adapterOf(adapted: AdaptedGraph, values: ReadonlyMap<string, Float32Array>): Adapter {
  const tensors = new Map<string, AdapterTensor>();
  for (const { name, shape } of adapted.parameters) {
    const data = values.get(name);
    const size = shape.reduce((a, b) => a * b, 1);
    if (data?.length !== size) {
      throw new PeftError("PARAMETER", `Expected ${size} values for "${name}", received ${data?.length ?? "none"}.`);
    }
    tensors.set(name, { dims: shape, data });
  }
  return { type: adapted.method.type, config: adapted.config, tensors };
}

/** A site of a model with the tensors that an adapter has for it. */
export interface AdaptedSite extends SitePlan {
  readonly tensors: ByRole<AdapterTensor>;
}

/**
 * Finds the modules of a model that an adapter's tensors are for and checks every shape. What the file's names say counts,
 * not its targetModules.
 * @throws PeftError ADAPTER_MISMATCH listing every tensor without a module, every module without a tensor and every shape
 */
export function adaptedSites(graph: Graph, sites: readonly Site[], adapter: Adapter): AdaptedSite[] {
  const method = methodOf(adapter.type);
  const problems: string[] = [];
  const used = new Set<string>();
  const take = (plan: SitePlan): AdaptedSite => {
    const found: [string, AdapterTensor][] = [];
    for (const { name, role, shape } of plan.parameters) {
      const tensor = adapter.tensors.get(name);
      used.add(name);
      if (!tensor) problems.push(`"${name}" is missing`);
      else if (tensor.dims.length !== shape.length || tensor.dims.some((d, i) => d !== shape[i])) {
        problems.push(`"${name}" is [${tensor.dims.join(", ")}], expected [${shape.join(", ")}]`);
      } else found.push([role, tensor]);
    }
    return { ...plan, tensors: Object.fromEntries(found) };
  };
  const result: AdaptedSite[] = [];
  for (const site of sites) {
    const has = (keys: Readonly<Record<string, string>>): boolean =>
      Object.values(keys).some((key) => adapter.tensors.has(`${site.name}.${key}`));
    const fits = method.kinds.includes(site.kind) && (method.refuses?.(site) ?? null) === null;
    const whole = adapter.tensors.has(`${site.name}.${full.keys["weight"]}`);
    if (whole) result.push(take(planSaved(graph, site)));
    else if (fits && has(method.keys)) result.push(take(planSite(graph, site, method, adapter.config)));
  }
  const names = sites.map((s) => s.name);
  for (const name of adapter.tensors.keys()) {
    if (used.has(name)) continue;
    const module = name.split(".").slice(0, -1).join(".");
    const near = nearestName(module, names);
    problems.push(`"${name}" fits no module of the model${near ? ` (the nearest is "${near}")` : ""}`);
  }
  if (problems.length > 0) {
    const shown = problems.slice(0, 10).join("; ");
    const more = problems.length > 10 ? `; and ${problems.length - 10} more` : "";
    throw new PeftError("ADAPTER_MISMATCH", `The ${adapter.type} adapter does not fit the model: ${shown}${more}.`, {
      hint: "Was it trained on another model, or on another export of it?",
      details: { problems },
    });
  }
  return result;
}
