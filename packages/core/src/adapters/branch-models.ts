import { PeftError } from "../errors.ts";
import { bindInputs } from "../lowering/bind-inputs.ts";
import { branchChoice } from "../lowering/choose-branches.ts";
import type { Attribute, Graph, Model, Node, TensorData, Value } from "../onnx/ir.ts";
import { subgraphsOf } from "../onnx/structure.ts";
import { readTensorBytes } from "../onnx/tensor.ts";

/** Inputs that choose branches, at most: every one doubles the number of models. */
const mostChoices = 3;

/** A model with several branches as one model for each: the one that training runs first. */
export interface BranchModels {
  readonly models: readonly [Model, ...Model[]];
  /** The whole again, from a changed model for each branch. */
  readonly combine: (changed: readonly Model[]) => Model;
}

/**
 * The models that a file holds: itself, or one for each value of the inputs that decide its branches. Weights that branches share are
 * the very same objects.
 * @throws PeftError BRANCHES where there are too many
 */
export function branchModels(model: Model, chosen = 0): BranchModels {
  const choice = branchChoice(model);
  if (!choice) return { models: [model], combine: ([changed]) => changed ?? model };
  if (chosen === mostChoices) {
    throw new PeftError(
      "BRANCHES",
      `More than ${mostChoices} inputs choose branches of the model, "${choice.input}" is one.`,
      {
        hint: "bindInputs makes a model of some branches, which can be merged by itself.",
      },
    );
  }
  const { input, value } = choice;
  const bound = [value, !value].map((truth) => bindInputs(model, { [input]: truth })) as [Model, Model];
  const [taken, other] = [branchModels(bound[0], chosen + 1), branchModels(bound[1], chosen + 1)];
  const count = taken.models.length;
  const before = [...taken.models, ...other.models];
  return {
    models: [...taken.models, ...other.models],
    combine: (changed) => {
      const kept = inFile(model, before, changed);
      if (kept) return kept;
      const [own, rest] = [taken.combine(changed.slice(0, count)), other.combine(changed.slice(count))];
      const inside = new Set(bound.flatMap(({ graph }) => [...graph.initializers.keys()]));
      for (const name of model.graph.initializers.keys()) inside.delete(name);
      return rejoin(model, input, inside, value ? [own, rest] : [rest, own]);
    },
  };
}

/** True for equal contents; of one object nothing is read. */
export function isSameTensor(a: TensorData, b: TensorData): boolean {
  if (a === b) return true;
  if (a.type !== b.type || a.dims.length !== b.dims.length || a.dims.some((d, i) => d !== b.dims[i])) return false;
  return Buffer.compare(readTensorBytes(a), readTensorBytes(b)) === 0;
}

/**
 * The file with other contents of some weights, where that is all that was changed in its branches. Null where nodes changed, and where
 * one branch wants another value of a weight than a second one that reads it.
 */
function inFile(model: Model, before: readonly Model[], changed: readonly Model[]): Model | null {
  const news = new Map<TensorData, TensorData>();
  const pairs = changed.flatMap(({ graph }, i) => {
    const old = (before[i] as Model).graph.initializers;
    return [...graph.initializers].map(([name, tensor]) => ({ tensor, known: old.get(name) }));
  });
  if (!changed.every(({ graph }, i) => hasSameNodes(graph.nodes, (before[i] as Model).graph.nodes))) return null;
  for (const { tensor, known } of pairs) {
    if (known === tensor) continue;
    const other = known && news.get(known);
    if (!known || (other && !isSameTensor(other, tensor))) return null;
    news.set(known, tensor);
  }
  // A weight that changed in one branch is not one that another reads as it was.
  if (pairs.some(({ tensor }) => news.has(tensor))) return null;
  return { ...model, graph: withTensors(model.graph, news) };
}

/** A graph with other initialisers in the place of some, in the graphs inside of it too. */
function withTensors(graph: Graph, news: ReadonlyMap<TensorData, TensorData>): Graph {
  const changes = [...graph.initializers.values()].some((tensor) => news.has(tensor));
  const initializers = changes
    ? new Map([...graph.initializers].map(([name, tensor]) => [name, news.get(tensor) ?? tensor]))
    : graph.initializers;
  const nodes = graph.nodes.map((node) => (subgraphsOf(node).length === 0 ? node : withTensorsIn(node, news)));
  return { ...graph, initializers, nodes };
}

function withTensorsIn(node: Node, news: ReadonlyMap<TensorData, TensorData>): Node {
  const attributes = Object.entries(node.attributes).map(([key, a]): [string, Attribute] => [
    key,
    a.type === "graph"
      ? { type: "graph", value: withTensors(a.value, news) }
      : a.type === "graphs"
        ? { type: "graphs", value: a.value.map((graph) => withTensors(graph, news)) }
        : a,
  ]);
  return { ...node, attributes: Object.fromEntries(attributes) };
}

const hasSameNodes = (a: readonly Node[], b: readonly Node[]): boolean =>
  a.length === b.length && a.every(({ inputs }, i) => inputs.every((name, k) => name === b[i]?.inputs[k]));

/**
 * One model with an If around two. Weights that both have are there once, but those that branches of the file had for themselves: ONNX
 * Runtime looks for the scales of some weights in the graph that reads them.
 */
function rejoin(
  model: Model,
  condition: string,
  inside: ReadonlySet<string>,
  [whenTrue, whenFalse]: readonly [Model, Model],
): Model {
  const outer = new Map<string, TensorData>();
  const inner = [new Map<string, TensorData>(), new Map<string, TensorData>()];
  for (const [i, { graph }] of [whenTrue, whenFalse].entries()) {
    for (const [name, tensor] of graph.initializers) {
      const other = (i === 0 ? whenFalse : whenTrue).graph.initializers.get(name);
      const isShared = !inside.has(name) && (other === undefined || isSameTensor(tensor, other));
      if (isShared) outer.set(name, outer.get(name) ?? tensor);
      else inner[i]?.set(name, tensor);
    }
  }
  const parts = [whenTrue, whenFalse].map(({ graph }, i) => asBranch(graph, i, inner[i] ?? new Map()));
  const given = new Set(model.graph.inputs.map((v) => v.name));
  const added = [whenTrue, whenFalse].flatMap(({ graph }) => graph.inputs.filter(({ name }) => !given.has(name)));
  const branch = (i: number): Attribute => ({ type: "graph", value: parts[i] as Graph });
  const node: Node = {
    ...{ name: `if:${condition}`, op: "If", domain: "", inputs: [condition] },
    outputs: model.graph.outputs.map((v) => v.name),
    attributes: { then_branch: branch(0), else_branch: branch(1) },
    metadata: {},
  };
  const inputs = [...model.graph.inputs, ...new Map(added.map((v) => [v.name, v])).values()];
  const graph = { ...model.graph, nodes: [node], inputs, initializers: outer, values: new Map() };
  const opsets = new Map([...whenTrue.opsets, ...whenFalse.opsets, ...model.opsets]);
  return { ...model, opsets, graph };
}

/** A graph inside an If: names of its own values differ from those around it, and nothing around it is put out as it is. */
function asBranch(graph: Graph, index: number, own: Map<string, TensorData>): Graph {
  const made = new Set(graph.nodes.flatMap((node) => node.outputs));
  const nodes = [...graph.nodes];
  const outputs = graph.outputs.map((value): Value => {
    if (made.has(value.name)) return value;
    const name = `${value.name}:branch`;
    nodes.push({
      ...{ name: `output/${value.name}`, op: "Identity", domain: "", inputs: [value.name], outputs: [name] },
      ...{ attributes: {}, metadata: {} },
    });
    return { ...value, name };
  });
  return { ...graph, name: index === 0 ? "then" : "else", nodes, inputs: [], outputs, initializers: own };
}
