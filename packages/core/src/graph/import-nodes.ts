import { PeftError } from "../errors.ts";
import { constantOf } from "../onnx/constant.ts";
import { at, intsAttribute } from "../onnx/infer/context.ts";
import { stateCount } from "../onnx/infer/control-flow.ts";
import type { Dim, Graph, Node, Shape, Value, ValueType } from "../onnx/ir.ts";
import { renameAll, renameInAttributes } from "../onnx/rename.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import type { Builder } from "./builder.ts";
import type { ImportOptions } from "./import-graph.ts";
import { isIdleDropout } from "./prune.ts";
import { buildSubgraph } from "./subgraph.ts";

/** 0.1 is stored as 0.10000000149 in float32; equal probabilities share a pool of masks. */
const roundProbability = (p: number): number => Number(p.toPrecision(6));

/** The share of values that a Dropout node sets to 0 in training. */
export function dropoutRatio(g: Builder, node: Node): number {
  const ratio = g.tensorOf(node.inputs[1] ?? "");
  const attribute = node.attributes["ratio"];
  return roundProbability(
    ratio ? (toFloat32Array(ratio)[0] ?? 0.5) : attribute?.type === "float" ? attribute.value : 0.5,
  );
}

/** A node as it is; in training a Dropout node as a masked one. */
export function addImported(g: Builder, node: Node, training: boolean): void {
  if (training && isIdleDropout(node)) addDropout(g, node);
  else g.addNode(node);
}

function addDropout(g: Builder, node: Node): void {
  const dropped = g.dropout(g.value(node.inputs[0] ?? ""), dropoutRatio(g, node));
  g.op("Identity", [dropped], {}, { outputs: [node.outputs[0] ?? ""] });
}

const graphOf = (node: Node, name: string): Graph => {
  const attribute = node.attributes[name];
  if (attribute?.type === "graph") return attribute.value;
  throw new PeftError("ONNX_INVALID", `${node.op} "${node.name}" lacks the graph "${name}".`);
};

/** The branch that an If takes, when its condition is known. */
function takenBranch(g: Builder, node: Node): Graph | null {
  if (node.op !== "If" || node.domain !== "") return null;
  const [condition] = g.intsOf(g.value(node.inputs[0] ?? "")) ?? [];
  return typeof condition === "number" ? graphOf(node, condition === 0 ? "else_branch" : "then_branch") : null;
}

/**
 * Adds the nodes of a graph to a builder, with `bindings` in the place of its inputs, and returns its outputs. Names that
 * are taken are replaced. An If whose condition is known is replaced by the branch it takes.
 */
export function inlineGraph(
  g: Builder,
  graph: Graph,
  bindings: ReadonlyMap<string, Value>,
  options: ImportOptions = {},
): Value[] {
  const names = new Map([...bindings].map(([name, value]) => [name, value.name]));
  const { prefix = "" } = options;
  const define = (name: string): string => {
    if (name === "") return name;
    const own = g.has(`${prefix}${name}`) ? g.freshName(name) : `${prefix}${name}`;
    if (own !== name) names.set(name, own);
    return own;
  };
  for (const [name, tensor] of graph.initializers) if (!bindings.has(name)) g.initializer(define(name), tensor);
  for (const node of graph.nodes) {
    if (options.training && isIdleDropout(node)) {
      if (!options.replace?.(g, node))
        addDropout(g, { ...node, inputs: renameAll(node.inputs, names), outputs: node.outputs.map(define) });
      continue;
    }
    const constant = constantOf(node);
    if (constant) {
      g.initializer(define(node.outputs[0] ?? ""), constant);
      continue;
    }
    if (options.replace?.(g, node)) continue;
    const inputs = renameAll(node.inputs, names);
    const attributes = renameInAttributes(node.attributes, names);
    const renamed = { ...node, inputs, outputs: node.outputs.map(define), attributes };
    const branch = takenBranch(g, renamed);
    if (!branch) g.addNode(withTypedBodies(g, renamed));
    else {
      const results = inlineGraph(g, branch, new Map(), options.training ? { training: true } : {});
      renamed.outputs.forEach((name, i) => {
        if (name !== "") g.op("Identity", [at(results, i)], {}, { outputs: [name] });
      });
    }
  }
  return graph.outputs.map(({ name }) => g.value(names.get(name) ?? name));
}

/** A node whose sub-graphs have been taken over too, so that types and shapes of all their values are known. */
function withTypedBodies(g: Builder, node: Node): Node {
  if (node.domain !== "" || !["If", "Loop", "Scan"].includes(node.op)) return node;
  const attributes = { ...node.attributes };
  const take = (name: string, inputs: readonly ValueType[]): Graph => {
    const graph = graphOf(node, name);
    const typed = buildSubgraph(g, graph.name || name, inputs, (child, values) =>
      inlineGraph(child, graph, new Map(graph.inputs.map((v, i) => [v.name, at(values, i)]))),
    );
    attributes[name] = { type: "graph", value: typed };
    return typed;
  };
  const given = node.inputs.map((name) => (name === "" ? null : g.value(name)));
  const present = (list: readonly (Value | null)[]): Value[] => list.filter((v): v is Value => v !== null);
  if (node.op === "If") for (const name of ["then_branch", "else_branch"]) take(name, []);
  else if (node.op === "Scan") {
    const states = stateCount(node);
    const axes = intsAttribute(node, "scan_input_axes");
    const parts = present(given.slice(states)).map(({ type, shape }, i) => {
      const axis = axes?.[i] ?? 0;
      return { type, shape: shape.filter((_, d) => d !== (axis < 0 ? axis + shape.length : axis)) };
    });
    take("body", [...present(given.slice(0, states)), ...parts]);
  } else takeLoop(g, node, present(given.slice(2)), (inputs) => take("body", inputs));
  return { ...node, attributes };
}

/** The body of a Loop: sizes of carried values that an iteration changes are unknown inside. */
function takeLoop(
  g: Builder,
  node: Node,
  initial: readonly Value[],
  take: (inputs: readonly ValueType[]) => Graph,
): void {
  const scalar = (type: ValueType["type"]): ValueType => ({ type, shape: [] });
  let carried: ValueType[] = initial.map(({ type, shape }) => ({ type, shape }));
  const open = new Set<Dim>();
  for (;;) {
    const body = take([scalar("int64"), scalar("bool"), ...carried]);
    const next = carried.map(({ type, shape }, i) => ({
      type,
      shape: common(g, node, shape, at(body.outputs, i + 1).shape, open),
    }));
    if (next.every(({ shape }, i) => shape.every((d, axis) => d === carried[i]?.shape[axis]))) return;
    carried = next;
  }
}

function common(g: Builder, node: Node, before: Shape, after: Shape, open: Set<Dim>): Dim[] {
  if (before.length !== after.length) {
    throw new PeftError(
      "SHAPE_INFERENCE",
      `A carried value of Loop "${node.name}" changes its rank from ${before.length} to ${after.length}.`,
    );
  }
  return before.map((dim, axis) => {
    if (dim === after[axis] || open.has(dim)) return dim;
    const fresh = g.freshSymbol();
    open.add(fresh);
    return fresh;
  });
}
