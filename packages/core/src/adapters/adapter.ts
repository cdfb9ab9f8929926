import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { full } from "../methods/full.ts";
import type { AdapterTensor, ByRole, FrozenSite, Method } from "../methods/method.ts";
import { methodOf } from "../methods/registry.ts";
import type { Graph } from "../onnx/ir.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { fitNames } from "./fit-names.ts";
import type { AdapterPlan } from "./inject.ts";
import { frozenSite } from "./operands.ts";
import { type AdapterParameter, parametersOf, planSaved, planSites, type SitePlan } from "./parameters.ts";
import { adapterParts } from "./parts.ts";
import { directOutputs } from "./reach.ts";
import { type AdapterConfig, methodConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { targetSites } from "./targets.ts";
import { unwrappedNames } from "./wrapped-names.ts";

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
 * @param made start values that are there already: those that `calibrateStart` made from data.
 * @throws PeftError START_NEEDS_DATA when a start is made from data and is not among them
 * @example
 * const values = initialParameters(adapted, 42);
 */
export function initialParameters(
  adapted: AdapterPlan,
  seed: number | string,
  made: ReadonlyMap<string, Float32Array> = new Map(),
): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  const stream = (name: string) => createRandom(streamSeed(seed, "init", name));
  const tensorsOf = (list: readonly AdapterParameter[]): ByRole<AdapterTensor> =>
    Object.fromEntries(
      list.flatMap(({ name, role, shape }) => {
        const data = values.get(name);
        return data ? [[role, { dims: shape, data }] as const] : [];
      }),
    );
  for (const { site, method, config, parameters, shared } of adapted.plans) {
    const frozen = frozenSite(adapted.model.graph, site);
    if (method.startShared && shared.some(({ name }) => !values.has(name))) {
      const own = adapted.plans.filter((plan) => plan.method === method).map((plan) => plan.site);
      const sites = own.map((s) => ({ site: s, frozen: frozenSite(adapted.model.graph, s) }));
      const begun = method.startShared({ sites, config });
      for (const { name, role } of shared) if (begun[role]) values.set(name, begun[role]);
    }
    // A start from data made some of a module's tensors, and the others start by themselves.
    const isMade = parameters.some(({ name }) => made.has(name));
    const started = isMade
      ? {}
      : (method.start?.({ site, config, frozen, random: stream(site.name), shared: tensorsOf(shared) }) ?? {});
    for (const { name, role, shape, spec, replaces } of [...shared, ...parameters]) {
      if (values.has(name)) continue;
      const given = made.get(name);
      if (given) values.set(name, given.slice());
      if (given) continue;
      const base = (): Float32Array => {
        if (replaces === null) throw new PeftError("PARAMETER", `"${name}" replaces nothing and has no base values.`);
        return frozen[replaces]();
      };
      values.set(name, started[role] ?? spec.init({ shape, random: stream(name), base }));
    }
  }
  return values;
}

/**
 * Values of parameters as tensors of their shapes: what engines take and sessions are fed.
 * @throws PeftError PARAMETER for a parameter without a value
 */
export function parameterTensors(
  parameters: readonly AdapterParameter[],
  values: ReadonlyMap<string, Float32Array>,
): Record<string, RuntimeTensor> {
  return Object.fromEntries(
    parameters.map(({ name, shape }): [string, RuntimeTensor] => {
      const data = values.get(name);
      if (!data) throw new PeftError("PARAMETER", `No value was given for the parameter "${name}".`);
      return [name, { type: "float32", dims: shape, data }];
    }),
  );
}

/** Values of a tensor; with dimensions where its free axes may have grown. */
export type TensorValues = Float32Array | { readonly dims: readonly number[]; readonly data: unknown };

/** The tensor of a parameter, its fixed axes checked. @throws PeftError PARAMETER */
function tensorFor({ name, shape, spec }: AdapterParameter, values: TensorValues | undefined): AdapterTensor {
  const data = values instanceof Float32Array ? values : values?.data;
  const dims = values === undefined || values instanceof Float32Array ? shape : values.dims;
  const size = dims.reduce((a, b) => a * b, 1);
  const fits = dims.length === shape.length && shape.every((d, axis) => d === dims[axis] || spec.free?.[axis]);
  if (!(data instanceof Float32Array) || data.length !== size || !fits) {
    const received = data instanceof Float32Array ? `${data.length} as [${dims.join(", ")}]` : "none";
    throw new PeftError("PARAMETER", `Expected ${shape.join(" x ")} values for "${name}", received ${received}.`);
  }
  return { dims, data, ...(spec.fileType ? { fileType: spec.fileType } : {}) };
}

/**
 * An adapter out of the parameters of an adapted graph. Tensors that files leave out are left out here too. Where ranks grew in
 * training, the config says so.
 * @throws PeftError PARAMETER when values are missing or of the wrong size
 */
export function adapterOf(adapted: AdapterPlan, values: ReadonlyMap<string, TensorValues>): Adapter {
  const { method, plans, parameters, unreached } = adapted;
  const all = new Map(
    parameters.map((parameter) => [parameter.name, tensorFor(parameter, values.get(parameter.name))]),
  );
  const tensors = new Map(
    plans
      .flatMap((plan) => [...plan.shared, ...plan.parameters])
      .flatMap(({ name, fileName, spec }): [string, AdapterTensor][] => {
        const tensor = all.get(name);
        return tensor && spec.saved !== false ? [[fileName, tensor]] : [];
      }),
  );
  const own = plans.filter((plan) => plan.method === method);
  // What is made again depends on which modules there are: on those of this graph, where another one has more.
  const isNameless = unreached.length > 0 && own.some(({ parameters: at }) => at.every((p) => p.spec.saved === false));
  const config = isNameless ? { ...adapted.config, targetModules: own.map(({ site }) => site.name) } : adapted.config;
  const trained = method.trained?.(
    methodConfig(config),
    own.map(({ site, parameters: at }) => ({
      site,
      tensors: Object.fromEntries(
        at.map((parameter) => [parameter.role, tensorFor(parameter, values.get(parameter.name))]),
      ),
    })),
  );
  return { type: method.type, config: trained ? { ...config, ...trained } : config, tensors };
}

/** Number of values that were trained: those of the config that training may have changed. */
export function trainedCount({ plans, method }: AdapterPlan, { config }: Adapter): number {
  const sites = plans.filter((plan) => plan.method === method).map((plan) => plan.site);
  const others = plans.filter((plan) => plan.method !== method);
  return parametersOf([...planSites(sites, method, config), ...others])
    .filter(({ trainable, spec }) => trainable && spec.saved !== false)
    .reduce((sum, { shape, spec }) => sum + (spec.entries ?? shape.reduce((a, b) => a * b, 1)), 0);
}

/** Values of tensors that files leave out, because config and base model determine them; made at the first call. */
function remaker(
  { site, method, config, shared, parameters }: SitePlan,
  frozen: FrozenSite,
  given: ReadonlyMap<string, AdapterTensor>,
): (role: string) => AdapterTensor {
  const known = Object.fromEntries(
    shared.flatMap((p) => {
      const tensor = given.get(p.name);
      return tensor ? [[p.role, tensor] as const] : [];
    }),
  );
  let started: ByRole<Float32Array> | undefined;
  return (role) => {
    const parameter = [...shared, ...parameters].find((p) => p.role === role);
    if (!parameter) throw new PeftError("PARAMETER", `${method.type} has no tensor "${role}".`);
    const { name, shape, spec, replaces } = parameter;
    const at = { site, config, frozen, random: createRandom(streamSeed(0, "init", site.name)), shared: known };
    started ??= method.start?.(at) ?? {};
    const base = (): Float32Array => frozen[replaces ?? "weight"]();
    const random = createRandom(streamSeed(0, "init", name));
    return { dims: shape, data: started[role] ?? spec.init({ shape, random, base }) };
  };
}

/** A site of a model with the tensors that an adapter has for it. */
export interface AdaptedSite extends SitePlan {
  readonly tensors: ByRole<AdapterTensor>;
}

/** Modules that a file is for without naming one, as it holds nothing but what all modules share: there its config says which. */
function unnamedSites(graph: Graph, sites: readonly Site[], { tensors, config }: Adapter, method: Method): Site[] {
  const endings = Object.values(method.keys).map((key) => `.${key}`);
  if (!method.shared || [...tensors.keys()].some((name) => endings.some((ending) => name.endsWith(ending)))) return [];
  const chosen = targetSites(sites, config, directOutputs(graph));
  const specs = chosen.flatMap((site) => Object.values(method.parameters(site, methodConfig(config), chosen)));
  return specs.every((spec) => spec.saved === false) ? chosen : [];
}

/**
 * Finds the modules of a model that an adapter's tensors are for and checks every shape. What the file's names say counts,
 * not its targetModules, but where they name no module.
 * @param frozenOf the base that unsaved tensors are made from, where that is not the graph: a merged one has other weights
 * @throws PeftError ADAPTER_MISMATCH listing every tensor without a module, every module without a tensor and every shape; BASE_MISMATCH
 *   when it belongs to another base model
 */
export function adaptedSites(
  graph: Graph,
  sites: readonly Site[],
  given: Adapter,
  frozenOf: (site: Site) => FrozenSite = (site) => frozenSite(graph, site),
): AdaptedSite[] {
  const adapter = fitNames(
    unwrappedNames(given, sites),
    sites.map((site) => site.name),
  );
  const method = methodOf(adapter.type);
  const problems: string[] = [];
  const used = new Set<string>();
  const take = (plan: SitePlan): AdaptedSite => {
    const found: [string, AdapterTensor][] = [];
    const remade = remaker(plan, frozenOf(plan.site), adapter.tensors);
    for (const { name, fileName, role, shape, spec } of [...plan.shared, ...plan.parameters]) {
      const isMade = spec.saved === false || spec.witness !== undefined;
      const tensor = adapter.tensors.get(name) ?? (isMade ? remade(role) : undefined);
      const isNew = !used.has(name);
      used.add(name).add(fileName);
      if (!isCopy(adapter.tensors.get(fileName), tensor)) {
        problems.push(`"${fileName}" and "${name}" should be one tensor and hold different values`);
      }
      if (!tensor) {
        if (isNew) problems.push(`"${name}" is missing`);
      } else if (tensor.dims.length !== shape.length || tensor.dims.some((d, i) => d !== shape[i])) {
        problems.push(`"${name}" is [${tensor.dims.join(", ")}], expected [${shape.join(", ")}]`);
      } else found.push([role, tensor]);
    }
    return { ...plan, tensors: Object.fromEntries(found) };
  };
  const has = (site: Site, { keys }: Method): boolean =>
    Object.values(keys).some((key) => adapter.tensors.has(`${site.name}.${key}`));
  const whole = sites.filter((site) => adapter.tensors.has(`${site.name}.${full.keys["weight"]}`));
  const parts = adapterParts(method, adapter.config).map(({ method: part, config }) => {
    const fits = (site: Site): boolean =>
      part.kinds.includes(site.kind) && (part.refuses?.(site, config) ?? null) === null;
    const unnamed = part === method ? unnamedSites(graph, sites, adapter, part) : [];
    const isMeant = (s: Site): boolean => part.wholeModel || has(s, part) || unnamed.includes(s);
    const own = sites.filter((s) => !whole.includes(s) && fits(s) && isMeant(s));
    return planSites(own, part, config);
  });
  const plans = [...planSaved(whole), ...parts.flat()];
  const order = new Map(sites.map((site, i) => [site.name, i]));
  const result = plans
    .sort((a, b) => (order.get(a.site.name) ?? 0) - (order.get(b.site.name) ?? 0))
    .map((plan) => take(plan));
  if (problems.length === 0) checkBase(adapter, result, frozenOf);
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

/** True for a copy, and for none. */
const isCopy = (copy: AdapterTensor | undefined, tensor: AdapterTensor | undefined): boolean =>
  copy === undefined ||
  copy === tensor ||
  (copy.data.length === tensor?.data.length && copy.data.every((v, i) => v === tensor.data[i]));

/** Largest difference of a witness, relative to its largest value: more than 16-bit storage of the base makes. */
const WITNESS_TOLERANCE = 2e-3;

/** @throws PeftError BASE_MISMATCH when an adapter that belongs to one base model is used with another */
function checkBase(adapter: Adapter, sites: readonly AdaptedSite[], frozenOf: (site: Site) => FrozenSite): void {
  for (const plan of sites) {
    for (const { name, role, spec } of plan.parameters) {
      const saved = adapter.tensors.get(name);
      if (!spec.witness || !saved) continue;
      const frozen = frozenOf(plan.site);
      const here = Array.from(
        spec.witness({ tensors: plan.tensors, frozen, made: remaker(plan, frozen, adapter.tensors) }),
      );
      const largest = here.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      const at = here.findIndex(
        (v, i) => !(Math.abs(v - (saved.data[i] ?? Number.NaN)) <= WITNESS_TOLERANCE * largest),
      );
      if (at < 0) continue;
      throw new PeftError(
        "BASE_MISMATCH",
        `The ${adapter.type} adapter belongs to another base model: "${name}" holds ${saved.data[at]} at ${at}, expected ${here[at]} for this one ("${role}" at "${plan.site.name}").`,
        { hint: "Use it with the model that it was trained on, or convert it to LoRA there first." },
      );
    }
  }
}
