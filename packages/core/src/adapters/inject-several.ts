import type { Builder } from "../graph/builder.ts";
import type { Method } from "../methods/method.ts";
import type { ElementType } from "../onnx/element-type.ts";
import type { Dim, Model, Value } from "../onnx/ir.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { type Adapter, adapterOf, initialParameters, parameterTensors } from "./adapter.ts";
import { type AdaptedGraph, type AdapterPlan, type InjectOptions, planAdapter, unrounded } from "./inject.ts";
import { parametersOf } from "./parameters.ts";
import { rowLayoutAt } from "./row-layout.ts";
import { inFedOrder, type RowSegments, splitRows } from "./row-segments.ts";
import { buildSeveral, renamedPlans, severalName } from "./several.ts";
import { findSites } from "./sites.ts";

/** One of the adapters of {@link injectSeveral}. */
export interface SeveralChoice<C extends object = object> {
  readonly method: Method<C>;
  readonly config: InjectOptions<C>["config"];
}

export interface InjectSeveralOptions extends Pick<InjectOptions, "training" | "wantedOutputs" | "sites" | "naming"> {
  readonly adapters: Readonly<Record<string, SeveralChoice>>;
}

/** One adapter among several: its part of the graph as if it were alone, with tensors named "<adapter>:<tensor>". */
export interface SeveralMember extends AdaptedGraph {
  readonly name: string;
  /** The same adapter under its own names: start values and files come from here. */
  readonly alone: AdapterPlan;
  /** This adapter's rows of a further graph input [batch, ...shape], which is declared at the first call. */
  input(name: string, type: ElementType, shape?: readonly Dim[]): Value;
}

/** A model in which several adapters are in effect at once, each for rows of its own; still under construction. */
export interface SeveralAdapted {
  readonly g: Builder;
  readonly model: Model;
  readonly members: ReadonlyMap<string, SeveralMember>;
  /** The wanted outputs for all rows, in the order in which rows are fed. */
  readonly outputs: ReadonlyMap<string, Value>;
}

/**
 * Takes a model over into a builder with several adapters, of any methods and configurations, each in effect for the rows that are
 * its own: {@link rowFeeds} says which. A member's outputs are those of its rows, so a loss of them trains it alone.
 * @throws PeftError as injectAdapter; ADAPTER_NAME, BATCH_UNKNOWN, ROWS_UNKNOWN, ROWS_UNSUPPORTED
 * @example
 * const several = injectSeveral(model, {
 *   adapters: { low: { method: lora, config: { r: 4, targetModules } }, high: { method: lora, config: { r: 16, targetModules } } },
 *   training: true,
 * });
 */
export function injectSeveral(original: Model, options: InjectSeveralOptions): SeveralAdapted {
  const { adapters, training = false, ...shared } = options;
  const first = Object.values(adapters)[0];
  const base = first ? planAdapter(original, { ...shared, ...first }).model : original;
  const sites = options.sites ?? findSites(base, { naming: options.naming ?? "file" });
  const plans = Object.entries(adapters).map(([name, choice], i) => {
    const alone = planAdapter(base, { ...shared, ...choice, sites });
    return { name, alone, plans: renamedPlans({ name, plans: alone.plans }, i) };
  });
  const { g, segments } = buildSeveral(base, plans, { training, base: false });
  const wanted = options.wantedOutputs ?? base.graph.outputs.map((v) => v.name);
  const whole = new Map(wanted.map((name) => [name, unrounded(g, g.value(name))]));
  const pieces = new Map(
    [...whole].map(([name, value]) => {
      const layout = rowLayoutAt(g, value, segments.batch, name);
      return [name, splitRows(g, value, layout, segments)];
    }),
  );
  const members = plans.map(
    ({ name, alone, plans: own }, i): SeveralMember => ({
      ...alone,
      name,
      alone,
      g,
      plans: own,
      parameters: parametersOf(own),
      outputs: new Map([...pieces].map(([output, list]) => [output, list[i] as Value])),
      input: (input, type, shape = []) => memberRows(g, segments, i, { name: input, type, shape }),
    }),
  );
  return {
    g,
    model: base,
    members: new Map(members.map((member) => [member.name, member])),
    outputs: new Map([...whole].map(([name, value]) => [name, inFedOrder(g, value, segments)])),
  };
}

function memberRows(
  g: Builder,
  { batch, list }: RowSegments,
  index: number,
  { name, type, shape }: { name: string; type: ElementType; shape: readonly Dim[] },
): Value {
  const whole = g.has(name) ? g.value(name) : g.input(name, type, [batch, ...shape]);
  return g.gather(whole, (list[index] as RowSegments["list"][number]).rows);
}

/**
 * Start values of all members' parameters: those that each would have alone.
 * @param seeds one for all, or one for each by name.
 * @param made by name, start values that `calibrateStart` made from data.
 */
export function initialSeveral(
  { members }: SeveralAdapted,
  seeds: number | string | Readonly<Record<string, number | string>>,
  made: Readonly<Record<string, ReadonlyMap<string, Float32Array>>> = {},
): Record<string, RuntimeTensor> {
  const tensors: [string, RuntimeTensor][] = [];
  for (const [member, { alone }] of members) {
    const seed = typeof seeds === "object" ? (seeds[member] ?? 42) : seeds;
    const own = parameterTensors(alone.parameters, initialParameters(alone, seed, made[member]));
    for (const [name, tensor] of Object.entries(own)) tensors.push([severalName(member, name), tensor]);
  }
  return Object.fromEntries(tensors);
}

/** One member as an adapter like any other, out of the parameters of all. @throws PeftError PARAMETER */
export function memberAdapter(
  { name, alone }: SeveralMember,
  parameters: Readonly<Record<string, RuntimeTensor>>,
): Adapter {
  const values = alone.parameters.flatMap((p) => {
    const tensor = parameters[severalName(name, p.name)];
    return tensor ? [[p.name, tensor] as const] : [];
  });
  return adapterOf(alone, new Map(values));
}
