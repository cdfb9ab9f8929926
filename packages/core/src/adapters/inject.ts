import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { addImported } from "../graph/import-nodes.ts";
import { cutCache } from "../lowering/cut-cache.ts";
import { isHalf } from "../lowering/float-types.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { ForwardInput, SublayerValues } from "../methods/forward-input.ts";
import { type ByRole, declared, type Method } from "../methods/method.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Dim, Model, Node, Value } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { blockRewrites } from "./attention/block-rewrites.ts";
import { addFirstPass, type FirstPass } from "./first-pass.ts";
import { frozenValues, sublayerAt } from "./frozen-values.ts";
import type { Naming } from "./naming.ts";
import { type AdapterParameter, parametersOf, planSaved, planSites, type SitePlan } from "./parameters.ts";
import { adapterParts, sitesOf } from "./parts.ts";
import { isReached, valuesBehind } from "./reach.ts";
import { withParameters } from "./replace-operands.ts";
import { ownValues, roleValues } from "./role-values.ts";
import { declareRowInputs, meanOverTokens, rowValues, rowView, type SiteLayout } from "./row-inputs.ts";
import { batchOf, rowLayoutAt } from "./row-layout.ts";
import { type AdapterConfig, type AdapterConfigInput, parseAdapterConfig, selectSites } from "./select.ts";
import type { Site, SiteUse } from "./site.ts";
import { findSites } from "./sites.ts";
import { lengthenInputs, realTokens } from "./tokens/lengthen.ts";

export interface InjectOptions<C extends object = object> {
  readonly method: Method<C>;
  /** The method's options with targetModules, modulesToSave and the like. */
  readonly config: AdapterConfigInput<C>;
  /** Adapter and base dropout are active (fed masks). Default false. */
  readonly training?: boolean;
  /** Outputs that count: chosen modules that none of them depends on are left out and listed. Default all outputs. */
  readonly wantedOutputs?: readonly string[];
  /** The model's sites, when they are known already. */
  readonly sites?: readonly Site[];
  /** Names that modules, and so the adapter's tensors, go by; see {@link findSites}. Without effect when `sites` is given. */
  readonly naming?: Naming;
}

/** What an adapter adds to a model. */
export interface AdapterPlan {
  /** The model in the form that is adapted: fused operators taken apart, a cache of earlier tokens empty. */
  readonly model: Model;
  readonly method: Method;
  readonly config: AdapterConfig;
  /** What is added where, adapted sites first, then those trained as a whole. */
  readonly plans: readonly SitePlan[];
  readonly parameters: readonly AdapterParameter[];
  /** Chosen modules that no wanted output depends on. They got no parameters. */
  readonly unreached: readonly string[];
  /** Chosen modules that the method cannot adapt, and why. */
  readonly skipped: readonly { readonly site: string; readonly reason: string }[];
}

/** A model with an adapter in it, still under construction: a loss can be added, gradients taken. */
export interface AdaptedGraph extends AdapterPlan {
  readonly g: Builder;
  /** The model's outputs by name, in float32, with the adapter in effect. Not declared as graph outputs yet. */
  readonly outputs: ReadonlyMap<string, Value>;
}

/** The graph inputs of the trained parameters, in order. */
export const trainableValues = ({ g, parameters }: AdaptedGraph): Value[] =>
  parameters.filter((p) => p.trainable).map((p) => g.value(p.name));

/** The graph inputs of all tensors of the adapter, trained or not. */
export const adapterValues = ({ g, parameters }: AdaptedGraph): Value[] => parameters.map((p) => g.value(p.name));

/** True when all that a plan does is put its own tensors in the place of the frozen ones. */
export const isReplacement = ({ parameters, shared }: SitePlan): boolean =>
  parameters.length > 0 && [...shared, ...parameters].every((p) => p.replaces !== null);

/**
 * What an adapter adds to a model, without adding it.
 * @throws PeftError CONFIG_INVALID, TARGETS_MISSING, TARGETS_NOT_FOUND, TARGETS_UNSUITABLE, TARGETS_UNREACHED
 */
export function planAdapter<C extends object>(original: Model, options: InjectOptions<C>): AdapterPlan {
  const model = cutCache(prepareModel(original));
  const { method } = options;
  const config = parseAdapterConfig(method, options.config);
  const modules = options.sites ?? findSites(model, { naming: options.naming ?? "file" });
  const sites = sitesOf(model, modules, method, config);
  const parts = adapterParts(method, config).map((part) => ({
    ...part,
    ...selectSites(model, sites, part.method, part.config),
  }));
  const saved = parts[0]?.saved ?? [];
  const skipped = parts.flatMap((part) => part.skipped);
  const behind = valuesBehind(model.graph, options.wantedOutputs ?? model.graph.outputs.map((v) => v.name));
  const reached = (list: readonly Site[]): Site[] => list.filter((site) => isReached(site, behind));
  const chosen = [...parts.flatMap((part) => part.adapted), ...saved];
  const unreached = chosen.filter((site) => !isReached(site, behind)).map((site) => site.name);
  const plans = [
    ...parts.flatMap((part) => planSites(reached(part.adapted), part.method, part.config)),
    ...planSaved(reached(saved)),
  ];
  if (plans.length === 0) {
    throw new PeftError(
      "TARGETS_UNREACHED",
      `No wanted output depends on any of [${unreached.slice(0, 8).join(", ")}].`,
      {
        hint: `Outputs are [${model.graph.outputs.map((v) => v.name).join(", ")}].`,
        details: { unreached },
      },
    );
  }
  return { model, method, config, plans, parameters: parametersOf(plans), unreached, skipped };
}

/**
 * Takes a model over into a builder with an adapter at the chosen sites. Adapter tensors are graph inputs without default
 * values ("<module>.<key>", as in peft's files), their rank a symbol; what read a site's output reads the adapted one.
 * Modules of `modulesToSave` read their weights from inputs too. A decoder's cache of earlier tokens is empty and no input: {@link cutCache}. The model itself is not changed.
 *
 * @throws PeftError CONFIG_INVALID, TARGETS_MISSING, TARGETS_NOT_FOUND, TARGETS_UNSUITABLE, TARGETS_UNREACHED, OPSET
 * @example
 * const adapted = injectAdapter(model, { method: lora, config: { r: 8, targetModules: ["query", "value"] } });
 * adapted.parameters[0].name; // "bert.encoder.layer.0.attention.self.query.lora_A.weight"
 */
export function injectAdapter<C extends object>(original: Model, options: InjectOptions<C>): AdaptedGraph {
  const plan = planAdapter(original, options);
  const { model, plans } = plan;
  const g = buildAdapted(model, plans, options.training ?? false);
  const outputs = new Map(
    model.graph.outputs.map(({ name }) => [name, realTokens(g, name, unrounded(g, g.value(name)), plans, model.graph)]),
  );
  return { ...plan, g, outputs };
}

/** An output before it is rounded to 16 bits, where that is the last thing that happens to it. */
export function unrounded(g: Builder, value: Value): Value {
  const node = isHalf(value.type) ? g.producerOf(value) : undefined;
  const source = node?.op === "Cast" ? g.value(node.inputs[0] ?? "") : undefined;
  return source?.type === "float32" ? source : value;
}

/** The graph with the forward of every plan added behind its site. */
export function buildAdapted(model: Model, plans: readonly SitePlan[], training: boolean): Builder {
  const graph = withParameters(model.graph, plans);
  const batch = (): Dim => batchOf(model.graph);
  let first: FirstPass | undefined;
  const valuesOf = roleValues(plans, () => first?.hidden);
  const blocks = blockRewrites(model, plans, valuesOf);
  const byOutput = adaptedUses(plans);
  let longer = new Map<string, Value>();
  const replace = (builder: Builder, given: Node): boolean => {
    const node = { ...given, inputs: given.inputs.map((name) => longer.get(name)?.name ?? name) };
    const adapted = node.outputs.flatMap((output) => {
      const uses = byOutput.get(output);
      return uses ? [{ output, uses }] : [];
    });
    if (adapted.length === 0) return blocks(builder, node);
    // A Split makes the outputs of several modules: it is added once, under other names where they are adapted.
    const outputs = node.outputs.map((name) => (byOutput.has(name) ? innerName(name) : name));
    addImported(builder, { ...node, outputs }, training);
    for (const { output, uses } of adapted) {
      // Where methods of a composition meet, the later one adapts what the earlier one made.
      const result = uses.reduce(
        (y, { plan, use }) => {
          const { input } = placeOf(plan, use);
          const x = longer.get(input) ?? builder.value(input);
          const layout = (): SiteLayout => siteLayout(builder, plan.site.name, x, y, batch());
          const sublayer = sublayerAt(builder, graph, use, (value) => value);
          return adaptedResult(builder, plan, use, {
            ...{ x, y, rows: rowValues(builder, plan), layout, values: valuesOf(builder, plan) },
            ...(sublayer ? { sublayer } : {}),
          });
        },
        builder.value(innerName(output)),
      );
      builder.op("Identity", [result], {}, { outputs: [output] });
    }
    return true;
  };
  const prepare = (builder: Builder): Map<string, Value> => {
    declareRowInputs(builder, plans, batch);
    longer = lengthenInputs(builder, plans);
    const looking = plans.find(({ method }) => method.hiddenStates);
    const states = looking?.method.hiddenStates?.(looking.config);
    if (states) first = addFirstPass(builder, graph, states, { batch: batch(), training });
    return new Map([...longer, ...(first?.bindings ?? [])]);
  };
  return importGraph(graph, opsetOf(model), { training, replace, prepare });
}

interface AdaptedUse {
  readonly plan: SitePlan;
  readonly use: SiteUse;
}

/**
 * What is adapted, by the name of the value that takes another's place.
 * @throws PeftError PARTS when one part adds to an attention block's output and another one adapts it
 */
function adaptedUses(plans: readonly SitePlan[]): Map<string, AdaptedUse[]> {
  const byOutput = new Map<string, AdaptedUse[]>();
  for (const plan of plans) {
    if (isReplacement(plan)) continue;
    for (const use of plan.site.uses) {
      const { output } = placeOf(plan, use);
      byOutput.set(output, [...(byOutput.get(output) ?? []), { plan, use }]);
    }
  }
  for (const { site, method } of plans) {
    const output = site.block?.output?.use.output ?? "";
    if (!method.attend || method.virtualTokens || !byOutput.has(output)) continue;
    throw new PeftError("PARTS", `${method.type} and another method both change what "${site.name}" puts out.`);
  }
  return byOutput;
}

/** The name of a frozen result whose own name the adapted one has. */
export const innerName = (output: string): string => `${output}:base`;

/** What a method reads and changes at a use: the module's input and result, or those of the residual branch that it ends. */
export function placeOf(
  { site, method, config }: SitePlan,
  use: SiteUse,
): { readonly input: string; readonly output: string } {
  if (declared(method.place, config) !== "sublayer") return use;
  if (use.sublayer) return use.sublayer;
  throw new PeftError("NO_SUBLAYER", `"${site.name}" ends no residual branch that ${method.type} could adapt.`);
}

/** @throws PeftError ROWS_UNKNOWN */
export const siteLayout = (g: Builder, site: string, x: Value, y: Value, batch: Dim): SiteLayout => ({
  batch,
  x: rowLayoutAt(g, x, batch, site),
  y: rowLayoutAt(g, y, batch, site),
});

export interface UseValues {
  readonly x: Value;
  /** What the frozen module, or branch, makes of x. */
  readonly y: Value;
  /** The method's values per row. */
  readonly rows: ByRole<Value>;
  readonly layout: () => SiteLayout;
  readonly sublayer?: SublayerValues;
  /** The method's tensors by role, with what it derives from them; default its tensors. */
  readonly values?: ByRole<Value>;
}

/** The adapted result of a use, in the type and shape of y. */
export function adaptedResult(g: Builder, plan: SitePlan, use: SiteUse, at: UseValues): Value {
  const { site, method, config } = plan;
  const { x, y, rows, layout, sublayer, values = ownValues(g, plan) } = at;
  return g.scoped(`${site.name}/${method.type.toLowerCase()}`, () => {
    const view = rowView(g, plan, isFloating(x.type) ? g.cast(x, "float32") : x, g.cast(y, "float32"), layout);
    const input: ForwardInput = {
      x: view.x,
      y: view.y,
      site,
      rows,
      meanOverTokens: (value) => meanOverTokens(g, value, layout),
      // A method at a branch leaves the module's own result as it is, where something stands between them.
      ...frozenValues(g, site, use, placeOf(plan, use).output === use.output ? innerName(use.output) : use.output),
      ...(sublayer ? { sublayer } : {}),
    };
    return g.cast(view.restore(method.forward(g, input, values, config)), y.type);
  });
}
