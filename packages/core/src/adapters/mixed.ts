import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { toModel } from "../graph/to-model.ts";
import { cutCache } from "../lowering/cut-cache.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Graph, Model, TensorData } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { type Adapter, adaptedSites } from "./adapter.ts";
import type { Naming } from "./naming.ts";
import { parametersOf } from "./parameters.ts";
import { BASE_ROWS, inFedOrder, rowsInputName } from "./row-segments.ts";
import { buildSeveral, type NamedPlans, renamedPlans, severalName } from "./several.ts";
import type { Site } from "./site.ts";
import { findSites } from "./sites.ts";

/** A model that holds several adapters and applies another one to each row of the batch. */
export interface MixedModel {
  /** Same inputs and outputs as the original; further inputs say which rows belong to which adapter: {@link rowFeeds}. */
  readonly model: Model;
  /** The adapters, in order. */
  readonly names: readonly string[];
}

export interface MixedOptions {
  /** The model's sites, when they are known already. */
  readonly sites?: readonly Site[];
  /** Names that the adapters' tensors go by; see {@link findSites}. Without effect when `sites` is given. */
  readonly naming?: Naming;
}

/** A graph in which every row has an adapter, as a model with the original's outputs. */
export function severalModel(original: Model, adapters: readonly NamedPlans[]): Model {
  const { g, segments } = buildSeveral(original, adapters, { training: false, base: true });
  for (const { name } of original.graph.outputs) g.output(inFedOrder(g, g.value(name), segments), name);
  const model = toModel(g.finish({ name: original.graph.name }), opsetOf(original), original.metadata);
  return { ...model, opsets: new Map([...original.opsets, ...model.opsets]) };
}

/** A graph whose inputs of some names are constants. */
function withConstants(graph: Graph, constants: ReadonlyMap<string, TensorData>): Graph {
  return {
    ...graph,
    inputs: graph.inputs.filter(({ name }) => !constants.has(name)),
    initializers: new Map([...graph.initializers, ...constants]),
  };
}

/**
 * A model with several adapters in it, of which each row of a batch uses one or none (`adapter_names` of peft, "__base__"
 * included). The adapters may be of different methods, ranks and modules. Rows cost what they cost with their adapter
 * alone; the frozen part runs once for the whole batch.
 * @throws PeftError ADAPTER_MISMATCH, ADAPTER_NAME, OPSET, BATCH_UNKNOWN; ROWS_UNKNOWN naming a module whose rows cannot be told apart
 * @example
 * const mixed = makeMixed(model, { spam, topics });
 * const session = await onnxruntimeNode.open(encodeModel(mixed.model));
 * await session.run({ ...inputs, ...rowFeeds(mixed.names, ["spam", "topics", "__base__", "spam"]) });
 */
export function makeMixed(
  original: Model,
  adapters: Readonly<Record<string, Adapter>>,
  options: MixedOptions = {},
): MixedModel {
  const model = cutCache(prepareModel(original));
  const sites = options.sites ?? findSites(model, { naming: options.naming ?? "file" });
  const constants = new Map<string, TensorData>();
  const named = Object.entries(adapters).map(([name, adapter], i): NamedPlans => {
    const plans = adaptedSites(model.graph, sites, adapter);
    for (const { shared, parameters, tensors } of plans) {
      for (const parameter of [...shared, ...parameters]) {
        const tensor = tensors[parameter.role];
        if (tensor) constants.set(severalName(name, parameter.name), tensorFrom("float32", tensor.dims, tensor.data));
      }
    }
    return { name, plans: renamedPlans({ name, plans }, i) };
  });
  const several = severalModel(model, named);
  const fed = parametersOf(named.flatMap(({ plans }) => plans)).map((p) => p.name);
  const own = new Map([...constants].filter(([name]) => fed.includes(name)));
  return { model: { ...several, graph: withConstants(several.graph, own) }, names: Object.keys(adapters) };
}

/**
 * Feeds that say which adapter each row of a batch uses.
 * @param names the adapters of the graph, in order.
 * @param rows one name for each row; "__base__" for none.
 * @throws PeftError UNKNOWN_ADAPTER
 * @example
 * rowFeeds(["a", "b"], ["b", "__base__", "b"])["adapter_rows.b"].data; // BigInt64Array [0n, 2n]
 */
export function rowFeeds(names: readonly string[], rows: readonly string[]): Record<string, RuntimeTensor> {
  const members = new Map<string, bigint[]>([BASE_ROWS, ...names].map((name) => [name, []]));
  for (const [row, name] of rows.entries()) {
    const list = members.get(name);
    if (!list) {
      const near = nearestName(name, members.keys());
      throw new PeftError("UNKNOWN_ADAPTER", `Row ${row} asks for "${name}", which the graph does not have.`, {
        hint: near ? `Did you mean "${near}"?` : `Adapters are [${[...members.keys()].join(", ")}].`,
      });
    }
    list.push(BigInt(row));
  }
  return Object.fromEntries(
    [...members].map(([name, list]) => [
      rowsInputName(name),
      { type: "int64", dims: [list.length], data: BigInt64Array.from(list) },
    ]),
  );
}
