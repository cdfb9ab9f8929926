import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { addImported } from "../graph/import-nodes.ts";
import { type ByRole, whyNoMixedBatch } from "../methods/method.ts";
import type { Graph, Model, Node, Value } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { sublayerAt } from "./frozen-values.ts";
import { adaptedResult, innerName, isReplacement, placeOf, siteLayout } from "./inject.ts";
import type { AdapterParameter, SitePlan } from "./parameters.ts";
import { parametersOf } from "./parameters.ts";
import { replacedModule } from "./replaced-module.ts";
import { declareRowInputs, rowValues } from "./row-inputs.ts";
import { batchOf, rowLayoutAt } from "./row-layout.ts";
import {
  BASE_ROWS,
  declareSegments,
  joinRows,
  orderedInputs,
  type RowSegment,
  type RowSegments,
  splitRows,
} from "./row-segments.ts";
import type { SiteUse } from "./site.ts";

/** One of several adapters of a graph. */
export interface NamedPlans {
  readonly name: string;
  readonly plans: readonly SitePlan[];
}

/** A model in which every row of the batch runs with one of several adapters, or with none; still under construction. */
export interface SeveralGraph {
  readonly g: Builder;
  readonly segments: RowSegments;
}

/** Names of an adapter's tensors in a graph that holds several. */
export const severalName = (adapter: string, tensor: string): string => `${adapter}:${tensor}`;

/**
 * An adapter's plans under names of its own: "<adapter>:<tensor>".
 * @param index number of the adapter, which keeps symbols of its ranks apart.
 */
export function renamedPlans({ name: adapter, plans }: NamedPlans, index: number): SitePlan[] {
  const renamed = (p: AdapterParameter): AdapterParameter => ({
    ...p,
    name: severalName(adapter, p.name),
    dims: p.dims.map((dim) => (typeof dim === "string" ? `adapter.${index}:${dim}` : dim)),
  });
  return plans.map((plan) => ({
    ...plan,
    shared: plan.shared.map(renamed),
    parameters: plan.parameters.map(renamed),
  }));
}

/** @throws PeftError ADAPTER_NAME */
function checkNames(adapters: readonly NamedPlans[]): void {
  const names = adapters.map(({ name }) => name);
  const bad = names.find((name, i) => name === "" || name === BASE_ROWS || names.indexOf(name) !== i);
  if (bad === undefined && names.length > 0) return;
  throw new PeftError("ADAPTER_NAME", `Expected adapters with names of their own, received [${names.join(", ")}].`, {
    hint: `"${BASE_ROWS}" stands for rows without an adapter.`,
  });
}

const unsupported = (message: string): PeftError =>
  new PeftError("ROWS_UNSUPPORTED", message, { hint: "Run its rows in a session of their own." });

interface AdaptedUse {
  readonly use: SiteUse;
  /** The plans of each adapter that changes this use: several where parts of a composition meet. */
  readonly plans: Map<string, SitePlan[]>;
}

function usesByOutput(adapters: readonly NamedPlans[]): Map<string, AdaptedUse> {
  const byOutput = new Map<string, AdaptedUse>();
  for (const { name, plans } of adapters) {
    for (const plan of plans) {
      for (const use of plan.site.uses) {
        const { output } = placeOf(plan, use);
        const known = byOutput.get(output) ?? { use, plans: new Map() };
        const others = known.plans.get(name) ?? [];
        // Replaced operands are what the others add to.
        known.plans.set(name, isReplacement(plan) ? [plan, ...others] : [...others, plan]);
        byOutput.set(output, known);
      }
    }
  }
  return byOutput;
}

/**
 * The graph of a model in which several adapters are in effect at once, each for rows of its own. The rows of the batch are brought
 * into the order of the adapters; a module's input and output are cut into one piece for each, every adapter's own forward
 * works on its piece, and the pieces are put together again. So it holds for every method, whatever it does to the module,
 * and each row is computed as it would be with its adapter alone. What modules compute once for all rows, they still do.
 *
 * @param adapters plans under names of their own: {@link renamedPlans}.
 * @param options `base`: some rows may run without an adapter.
 * @throws PeftError ADAPTER_NAME, OPSET, BATCH_UNKNOWN, ROWS_UNKNOWN, ROWS_UNSUPPORTED
 */
export function buildSeveral(
  model: Model,
  adapters: readonly NamedPlans[],
  { training, base }: { readonly training: boolean; readonly base: boolean },
): SeveralGraph {
  checkNames(adapters);
  const opset = opsetOf(model);
  if (opset < 13) {
    throw new PeftError("OPSET", `Adapters per row need opset 13 or newer, received ${opset}.`, {
      hint: "Export the model with a newer opset.",
    });
  }
  for (const { method, config, site } of adapters.flatMap(({ plans }) => plans)) {
    const reason = whyNoMixedBatch(method, config, [site]);
    if (reason !== null) throw unsupported(`${method.type} adapters do not go together: ${reason}.`);
  }
  const byOutput = usesByOutput(adapters);
  const inputs = parametersOf(adapters.flatMap(({ plans }) => plans));
  const batch = batchOf(model.graph);
  let segments: RowSegments | undefined;
  let ordered = new Map<string, Value>();
  const prepare = (g: Builder): ReadonlyMap<string, Value> => {
    const fed = model.graph.inputs.filter((v) => g.has(v.name)).map((v) => g.value(v.name));
    segments = declareSegments(g, [...(base ? [BASE_ROWS] : []), ...adapters.map(({ name }) => name)], batch);
    ordered = orderedInputs(g, fed, segments);
    for (const { name, dims } of inputs) g.input(name, "float32", dims);
    for (const { plans } of adapters) declareRowInputs(g, plans, () => batch);
    return ordered;
  };
  const replace = (g: Builder, node: Node): boolean => {
    const adapted = node.outputs.flatMap((output) => {
      const found = byOutput.get(output);
      return found ? [{ ...found, output }] : [];
    });
    if (adapted.length === 0 || !segments) return false;
    const outputs = node.outputs.map((name) => (byOutput.has(name) ? innerName(name) : name));
    const inputs = node.inputs.map((name) => ordered.get(name)?.name ?? name);
    addImported(g, { ...node, inputs, outputs }, training);
    for (const one of adapted) {
      const read = (value: Value): Value => ordered.get(value.name) ?? value;
      const result = severalResults(g, model.graph, one, read, segments);
      g.op("Identity", [result], {}, { outputs: [one.output] });
    }
    return true;
  };
  const g = importGraph(model.graph, opset, { training, replace, prepare });
  return { g, segments: segments as RowSegments };
}

/** The result of a use for all rows, each with its own adapter. */
function severalResults(
  g: Builder,
  graph: Graph,
  { use, output, plans }: AdaptedUse & { readonly output: string },
  read: (value: Value) => Value,
  segments: RowSegments,
): Value {
  const y = g.value(innerName(output));
  const [site = ""] = [...plans.values()].flat().map((plan) => plan.site.name);
  const cut = (value: Value): Value[] =>
    splitRows(g, read(value), rowLayoutAt(g, read(value), segments.batch, site), segments);
  const ys = cut(y);
  const known = new Map<string, Value[]>();
  /** A segment's part of a value; each value is cut once. */
  const partOf = (value: Value, i: number): Value => {
    const parts = known.get(value.name) ?? cut(value);
    known.set(value.name, parts);
    return parts[i] as Value;
  };
  const pieces = segments.list.map(({ adapter, count, rows }: RowSegment, i) =>
    (plans.get(adapter) ?? []).reduce((ownY, plan) => {
      const x = g.value(placeOf(plan, use).input);
      const [layout, ownX] = [siteLayout(g, site, read(x), y, segments.batch), partOf(x, i)];
      return g.scoped(adapter, () => {
        if (isReplacement(plan)) return replacedModule(g, graph, plan, use, ownX);
        if (plan.parameters.some((p) => p.replaces !== null)) {
          throw unsupported(`${plan.method.type} replaces a part of "${site}" and adds to it.`);
        }
        const own: ByRole<Value> = Object.fromEntries(
          Object.entries(rowValues(g, plan)).map(([role, value]) => [role, g.gather(value, rows)]),
        );
        const sublayer = sublayerAt(g, graph, use, (value) => partOf(value, i));
        return adaptedResult(g, plan, use, {
          ...{ x: ownX, y: ownY, rows: own, layout: () => ({ ...layout, batch: count }) },
          ...(sublayer ? { sublayer } : {}),
        });
      });
    }, ys[i] as Value),
  );
  return joinRows(g, pieces, rowLayoutAt(g, y, segments.batch, site).axis, y);
}
