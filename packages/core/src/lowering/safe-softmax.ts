import { intAttribute } from "../onnx/infer/context.ts";
import type { Attribute, Graph, Model, Node, TensorData } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { tensorFrom, toNumbers } from "../onnx/tensor.ts";
import type { Pass } from "./pass.ts";

/** The smallest number of each type: what stands for minus infinity in a row where nothing is left. */
const lowest = { float32: -3.4028234663852886e38, float16: -65504 } as const;

interface Found {
  readonly softmax: Node;
  readonly nanTest: Node;
  readonly where: Node;
  readonly type: keyof typeof lowest;
}

/**
 * Softmax, then 0 for NaN: how PyTorch exports attention in which a row may be masked as a whole (a padded query behind a
 * sliding window). The values are right, but their derivative is not: the rule of Softmax multiplies by its NaN, and one such row
 * makes every gradient NaN. The same function without NaN:
 *   y = softmax(max(x, lowest)) * [max of the row > -infinity]
 * Rows with a finite number keep their values, as exp(lowest - max) is 0; a row of minus infinities becomes uniform, times 0.
 */
export const safeSoftmax: Pass = {
  name: "safe-softmax",
  run(model) {
    const found = opsetOf(model) < 13 ? [] : find(model.graph);
    return found.length === 0 ? model : { ...model, graph: rewrite(model, found) };
  },
};

function find(graph: Graph): Found[] {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  return graph.nodes.flatMap((where) => {
    const nanTest = where.op === "Where" ? producers.get(where.inputs[0] ?? "") : undefined;
    const softmax = nanTest?.op === "IsNaN" ? producers.get(nanTest.inputs[0] ?? "") : undefined;
    const zero = constantOf(graph, producers, where.inputs[1] ?? "");
    if (softmax?.op !== "Softmax" || softmax.domain !== "" || where.inputs[2] !== softmax.outputs[0]) return [];
    if (!nanTest || !zero || zero.dims.some((d) => d !== 1) || zero.dims.length > 1) return [];
    if (toNumbers(zero)[0] !== 0) return [];
    return zero.type === "float32" || zero.type === "float16" ? [{ softmax, nanTest, where, type: zero.type }] : [];
  });
}

function constantOf(graph: Graph, producers: ReadonlyMap<string, Node>, name: string): TensorData | null {
  const value = producers.get(name)?.attributes["value"];
  return graph.initializers.get(name) ?? (value?.type === "tensor" ? value.value : null);
}

function rewrite(model: Model, found: readonly Found[]): Graph {
  const { graph } = model;
  const initializers = new Map(graph.initializers);
  const replaced = new Map(found.map((f) => [f.where, safeNodes(f, opsetOf(model), initializers)]));
  const nodes = graph.nodes.flatMap((node) => replaced.get(node) ?? [node]);
  const read = new Set([...graph.outputs.map((v) => v.name), ...nodes.flatMap((n) => n.inputs)]);
  // IsNaN first: nothing but it and the Where may have read the old Softmax.
  const dead = (list: readonly Node[], node: Node, names: ReadonlySet<string>): Node[] =>
    node.outputs.some((name) => names.has(name)) ? [...list] : list.filter((other) => other !== node);
  const withoutTest = found.reduce<Node[]>((list, { nanTest }) => dead(list, nanTest, read), nodes);
  const stillRead = new Set([...graph.outputs.map((v) => v.name), ...withoutTest.flatMap((n) => n.inputs)]);
  return {
    ...graph,
    initializers,
    nodes: found.reduce<Node[]>((list, { softmax }) => dead(list, softmax, stillRead), withoutTest),
  };
}

/** The nodes in the place of the Where; its output keeps its name. */
function safeNodes({ softmax, where, type }: Found, opset: number, initializers: Map<string, TensorData>): Node[] {
  const axis = intAttribute(softmax, "axis", -1);
  const at = `${softmax.outputs[0]}:safe`;
  const constant = (name: string, tensor: TensorData): string => {
    initializers.set(`${at}/${name}`, tensor);
    return `${at}/${name}`;
  };
  const node = (op: string, inputs: string[], output: string, attributes: Record<string, Attribute> = {}): Node => {
    const name = `${softmax.name}/${op}`;
    return { name, op, domain: "", inputs, outputs: [output], attributes, metadata: softmax.metadata };
  };
  const [x = "", y = ""] = [softmax.inputs[0], where.outputs[0]];
  const keep: Attribute = { type: "int", value: 1 };
  const reduce =
    opset < 18
      ? node("ReduceMax", [x], `${at}/max`, { axes: { type: "ints", value: [axis] }, keepdims: keep })
      : node("ReduceMax", [x, constant("axes", tensorFrom("int64", [1], [axis]))], `${at}/max`, { keepdims: keep });
  const least = constant("lowest", tensorFrom(type, [], [lowest[type]]));
  const infinity = constant("infinity", tensorFrom(type, [], [Number.NEGATIVE_INFINITY]));
  return [
    reduce,
    node("Greater", [`${at}/max`, infinity], `${at}/isLive`),
    node("Cast", [`${at}/isLive`], `${at}/live`, { to: { type: "int", value: type === "float32" ? 1 : 10 } }),
    node("Max", [x, least], `${at}/finite`),
    node("Softmax", [`${at}/finite`], `${at}/softmax`, softmax.attributes),
    node("Mul", [`${at}/softmax`, `${at}/live`], y),
  ];
}
