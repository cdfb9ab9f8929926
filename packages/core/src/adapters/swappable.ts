import { PeftError } from "../errors.ts";
import { toModel } from "../graph/to-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { type AdaptedSite, type Adapter, adaptedSites } from "./adapter.ts";
import { type AdaptedGraph, buildAdapted, type InjectOptions, injectAdapter } from "./inject.ts";
import { frozenSite } from "./operands.ts";
import type { AdapterParameter, SitePlan } from "./parameters.ts";
import type { Site } from "./site.ts";
import { findSites } from "./sites.ts";

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
 * feed. Numbers of a configuration (alpha, rank) are not in the graph but folded into the tensors by {@link adapterFeeds}.
 * @param options as for {@link injectAdapter}: the sites, and the method, that adapters of this model may use.
 * @throws PeftError as injectAdapter; NOT_SWAPPABLE for a method whose forward holds numbers of its configuration
 * @example
 * const swappable = makeSwappable(model, { method: lora, config: { targetModules: ["query", "value"] } });
 * await writeModel("swappable.onnx", swappable.model);
 */
export function makeSwappable<C extends object>(
  original: Model,
  options: Omit<InjectOptions<C>, "training">,
): SwappableModel {
  const model = prepareModel(original);
  const sites = options.sites ?? findSites(model);
  const adapted: AdaptedGraph = injectAdapter(model, { ...options, sites });
  const plans = adapted.plans.map((plan): SitePlan => {
    const isReplacement = plan.parameters.every((p) => p.replaces !== null);
    if (plan.method.swap) return { ...plan, config: plan.method.swap.config(plan.config) };
    if (isReplacement) return plan;
    throw new PeftError("NOT_SWAPPABLE", `${plan.method.type} cannot be fed to a graph that serves several adapters.`);
  });
  const g = buildAdapted(model, plans, false);
  for (const { name } of model.graph.outputs) g.output(g.value(name), name);
  const served = toModel(g.finish({ name: model.graph.name }), opsetOf(model), model.metadata);
  const opsets = new Map([...model.opsets, ...served.opsets]);
  return { model: { ...served, opsets }, base: model, sites, plans, parameters: adapted.parameters };
}

const feed = (dims: readonly number[], data: Float32Array): RuntimeTensor => ({ type: "float32", dims, data });

/** Feeds under which the model is the original one: empty ranks, base weights. */
function neutralFeeds({ base, plans }: SwappableModel): Record<string, RuntimeTensor> {
  const feeds: Record<string, RuntimeTensor> = {};
  for (const { site, method, specs, parameters } of plans) {
    const frozen = frozenSite(base.graph, site);
    for (const { name, role, shape, replaces } of parameters) {
      const free = specs[role]?.free ?? [];
      const dims = shape.map((size, axis) => (free[axis] ? 0 : size));
      if (replaces !== null) feeds[name] = feed(shape, frozen[replaces]());
      else if (dims.includes(0)) feeds[name] = feed(dims, new Float32Array(0));
      else throw new PeftError("NO_NEUTRAL", `${method.type} has no values for "${role}" that mean "no adapter".`);
    }
  }
  return feeds;
}

/**
 * Feeds for the adapter inputs of a swappable model: those of `adapter`, or the neutral ones for null. Modules that the
 * adapter says nothing about get neutral values.
 * @throws PeftError ADAPTER_MISMATCH; ADAPTER_OUTSIDE when the adapter changes modules that the model has no inputs for
 * @example
 * await session.run({ ...inputs, ...adapterFeeds(swappable, adapter) });
 */
export function adapterFeeds(swappable: SwappableModel, adapter: Adapter | null): Record<string, RuntimeTensor> {
  const feeds = neutralFeeds(swappable);
  if (!adapter) return feeds;
  const outside: string[] = [];
  for (const plan of adaptedSites(swappable.base.graph, swappable.sites, adapter)) {
    const tensors = foldedTensors(plan);
    for (const { name, role } of plan.parameters) {
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

const foldedTensors = ({ method, tensors, config }: AdaptedSite): AdaptedSite["tensors"] =>
  method.swap ? method.swap.tensors(tensors, config) : tensors;
