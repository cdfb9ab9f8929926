import { PeftError } from "../errors.ts";
import { toModel } from "../graph/to-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { declared, type Method } from "../methods/method.ts";
import type { Model } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { type AdaptedSite, type Adapter, adaptedSites } from "./adapter.ts";
import { type AdapterPlan, buildAdapted, type InjectOptions, isReplacement, planAdapter } from "./inject.ts";
import { frozenSite } from "./operands.ts";
import { type AdapterParameter, parametersOf, planSite, type SitePlan } from "./parameters.ts";
import { sitesOf as adapterSites } from "./parts.ts";
import { parseAdapterConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { findSites } from "./sites.ts";
import { realTokens } from "./tokens/lengthen.ts";

/** A model that takes its adapter as inputs, and what is needed to feed it. */
export interface SwappableModel {
  /** Same outputs as the original; further inputs: the adapter tensors. */
  readonly model: Model;
  /** The model it was made from, fused operators taken apart: base values of replaced weights are read there. */
  readonly base: Model;
  readonly sites: readonly Site[];
  readonly plans: readonly SitePlan[];
  readonly parameters: readonly AdapterParameter[];
}

/**
 * A model whose adapter is fed on every run, so that one session serves any number of adapters and none: swapping costs a
 * feed. Numbers of a configuration (LoRA's alpha and rank) are folded into the tensors by {@link adapterFeeds}; methods that
 * cannot do that serve adapters of the one configuration they were made with.
 * @param options as for {@link injectAdapter}: the sites, and the method, that adapters of this model may use.
 * @throws PeftError NO_NEUTRAL when no values stand for "no adapter"; and as injectAdapter
 * @example
 * const swappable = makeSwappable(model, { method: lora, config: { targetModules: ["query", "value"] } });
 * await writeModel(swappable.model, "swappable.onnx");
 */
export function makeSwappable<C extends object>(
  original: Model,
  options: Omit<InjectOptions<C>, "training">,
): SwappableModel {
  const model = prepareModel(original);
  const modules = options.sites ?? findSites(model, { naming: options.naming ?? "file" });
  const { method } = options;
  const sites = adapterSites(model, modules, method, parseAdapterConfig(method, options.config));
  const adapted = planAdapter(model, { ...options, sites });
  if (declared(adapted.method.neutral, adapted.config) === "none") {
    throw new PeftError(
      "NO_NEUTRAL",
      `${adapted.method.type} with this config has no values under which the model is the base model.`,
      { hint: "Inject the adapter into a graph of its own." },
    );
  }
  const plans = servedPlans(adapted);
  const g = buildAdapted(model, plans, false);
  for (const { name } of model.graph.outputs) g.output(realTokens(g, name, g.value(name), plans, model.graph), name);
  const served = toModel(g.finish({ name: model.graph.name }), opsetOf(model), model.metadata);
  const opsets = new Map([...model.opsets, ...served.opsets]);
  return { model: { ...served, opsets }, base: model, sites, plans, parameters: parametersOf(plans) };
}

/** An adapter's plans with configurations that have no numbers of their own, where the method has such a one. */
export function servedPlans({ plans }: AdapterPlan): SitePlan[] {
  const sitesOf = (method: Method): Site[] => plans.flatMap((plan) => (plan.method === method ? [plan.site] : []));
  return plans.map((plan): SitePlan => {
    const { site, method } = plan;
    if (!method.swap) return plan;
    const config = method.swap.config(plan.config);
    return method.swap.otherTensors ? planSite(site, sitesOf(method), method, config) : { ...plan, config };
  });
}

/** What feeds of adapters are made from. */
export type ServedSites = Pick<SwappableModel, "base" | "sites" | "plans">;

const feed = (dims: readonly number[], data: Float32Array): RuntimeTensor => ({ type: "float32", dims, data });

/** Feeds under which the model is the original one: empty ranks, base weights. */
function neutralFeeds({ base, plans }: ServedSites): Record<string, RuntimeTensor> {
  const feeds: Record<string, RuntimeTensor> = {};
  for (const { site, shared, parameters } of plans) {
    const frozen = frozenSite(base.graph, site);
    for (const { name, shape, spec, replaces } of [...shared, ...parameters]) {
      const dims = shape.map((size, axis) => (spec.free?.[axis] ? 0 : size));
      if (replaces !== null) {
        feeds[name] = feed(shape, frozen[replaces]());
        continue;
      }
      const neutral = spec.neutral ?? 0;
      const count = dims.reduce((a, b) => a * b, 1);
      feeds[name] = feed(dims, typeof neutral === "function" ? neutral(frozen) : new Float32Array(count).fill(neutral));
    }
  }
  return feeds;
}

/**
 * Feeds for the adapter inputs of a swappable model: those of `adapter`, or the neutral ones for null. Modules that the
 * adapter says nothing about get neutral values.
 * @throws PeftError ADAPTER_MISMATCH; ADAPTER_CONFIG; ADAPTER_OUTSIDE when the adapter changes modules that the model has no inputs for
 * @example
 * await session.run({ ...inputs, ...adapterFeeds(swappable, adapter) });
 */
export function adapterFeeds(swappable: ServedSites, adapter: Adapter | null): Record<string, RuntimeTensor> {
  const feeds = neutralFeeds(swappable);
  if (!adapter) return feeds;
  const outside: string[] = [];
  const keyOf = ({ site, method }: SitePlan): string => `${method.type} ${site.name}`;
  const served = new Map(swappable.plans.map((plan) => [keyOf(plan), plan]));
  for (const plan of adaptedSites(swappable.base.graph, swappable.sites, adapter)) {
    const target = served.get(keyOf(plan));
    checkConfig(plan, target);
    const tensors = foldedTensors(plan);
    const { shared, parameters } = target?.method === plan.method ? target : plan;
    for (const { name, role } of [...shared, ...parameters]) {
      const tensor = tensors[role];
      if (!Object.hasOwn(feeds, name)) outside.push(name);
      else if (tensor) feeds[name] = feed(tensor.dims, tensor.data);
    }
  }
  if (outside.length > 0) {
    throw new PeftError(
      "ADAPTER_OUTSIDE",
      `The adapter changes what this model has no inputs for: ${outside.slice(0, 8).join(", ")}.`,
      {
        hint: "Make the model swappable with targets that cover all of its adapters.",
        details: { outside },
      },
    );
  }
  return feeds;
}

/** Where a forward holds numbers of its configuration, the graph serves adapters of that configuration only. */
function checkConfig({ site, method, config }: AdaptedSite, served: SitePlan | undefined): void {
  if (!served || served.method.type !== method.type || method.swap || isReplacement(served)) return;
  const [expected, received] = [JSON.stringify(served.config), JSON.stringify(config)];
  if (expected === received) return;
  throw new PeftError(
    "ADAPTER_CONFIG",
    `At "${site.name}" the model serves ${method.type} adapters with ${expected}, received one with ${received}.`,
    { hint: "Make a swappable model for each configuration, or convert the adapter to LoRA." },
  );
}

const foldedTensors = ({ method, tensors, config }: AdaptedSite): AdaptedSite["tensors"] =>
  method.swap ? method.swap.tensors(tensors, config) : tensors;
