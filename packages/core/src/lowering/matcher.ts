import type { Attribute, Graph, Model, Node, TensorData } from "../onnx/ir.ts";
import { capturedNames, readNames, subgraphsOf } from "../onnx/structure.ts";
import { elementCount, toFloat32Array, toNumbers } from "../onnx/tensor.ts";

/** A graph with what a pattern asks of it. Nodes that a match takes are collected in `taken`. */
export interface Matcher {
  /** The node that makes a value, when it is that operator of the ONNX domain. */
  readonly made: (name: string | undefined, ...ops: readonly string[]) => Node | null;
  /** The float32 number behind a name, when it is a constant of one element. */
  readonly scalar: (name: string | undefined) => number | null;
  /** The constant behind a name. */
  readonly constant: (name: string | undefined) => TensorData | null;
  /** True when nothing outside the given nodes reads what they make, the last one's result excepted. */
  readonly isClosed: (inner: ReadonlySet<Node>, last: Node) => boolean;
  /** True when a value has one reader and is no output. */
  readonly isReadOnce: (name: string) => boolean;
}

export function matcherOf(graph: Graph): Matcher {
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const readers = new Map<string, Node[]>();
  const pinned = new Set(graph.outputs.map((v) => v.name));
  for (const node of graph.nodes) {
    for (const name of readNames(node)) readers.set(name, [...(readers.get(name) ?? []), node]);
    for (const inner of subgraphsOf(node)) for (const name of capturedNames(inner)) pinned.add(name);
  }
  const constant = (name: string | undefined): TensorData | null => {
    const tensor = graph.initializers.get(name ?? "");
    if (tensor) return tensor;
    const producer = producers.get(name ?? "");
    const value = producer?.op === "Constant" ? producer.attributes["value"] : undefined;
    return value?.type === "tensor" ? value.value : null;
  };
  return {
    constant,
    made: (name, ...ops) => {
      const node = producers.get(name ?? "");
      return node && node.domain === "" && ops.includes(node.op) ? node : null;
    },
    scalar: (name) => {
      const tensor = constant(name);
      if (tensor?.type !== "float32" || elementCount(tensor.dims) !== 1) return null;
      return toFloat32Array(tensor)[0] ?? null;
    },
    isClosed: (inner, last) =>
      [...inner].every(
        (node) =>
          node === last ||
          node.outputs.every((name) => !pinned.has(name) && (readers.get(name) ?? []).every((r) => inner.has(r))),
      ),
    isReadOnce: (name) => readers.get(name)?.length === 1 && !pinned.has(name),
  };
}

/** Equal up to the rounding of a float32 constant. */
export const isNear = (value: number | null, expected: number): boolean =>
  value !== null && Math.abs(value - expected) <= 2e-7 * Math.abs(expected);

/** A node that one input of which `test` accepts: what it found there, and the other input. */
export function either<T>(node: Node | null, test: (name: string) => T | null): { found: T; other: string } | null {
  const [a = "", b = ""] = node?.inputs ?? [];
  for (const [name, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const found = node ? test(name) : null;
    if (found !== null) return { found, other };
  }
  return null;
}

/** ReduceMean over the last axis that keeps it, whose axes are an attribute or, from opset 18, an input. */
export function isLastMean(m: Matcher, node: Node): boolean {
  const [attribute, keep] = [node.attributes["axes"], node.attributes["keepdims"]];
  const given = m.constant(node.inputs[1]);
  const axes =
    attribute?.type === "ints" ? attribute.value.map(Number) : given?.type === "int64" ? toNumbers(given) : [];
  return axes.length === 1 && axes[0] === -1 && (keep?.type !== "int" || Number(keep.value) === 1);
}

/** A cluster, and the one node that computes the same. */
export interface Cluster {
  readonly nodes: ReadonlySet<Node>;
  /** The node that makes the result; the new one has its place, name, metadata and output. */
  readonly last: Node;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly attributes: Record<string, Attribute>;
}

/** The model with every cluster that `find` sees at a node as one node; the same model when there is none. */
export function replaceClusters(model: Model, find: (m: Matcher, last: Node) => Cluster | null): Model {
  const { graph } = model;
  const m = matcherOf(graph);
  const replaced = new Map<Node, Node | null>();
  // From the end: a norm with its shift is found before the scale inside it, which would be a norm of its own.
  for (const node of [...graph.nodes].reverse()) {
    const cluster = find(m, node);
    if (!cluster || !m.isClosed(cluster.nodes, cluster.last) || [...cluster.nodes].some((n) => replaced.has(n)))
      continue;
    const { last, op, domain, inputs, attributes } = cluster;
    for (const inner of cluster.nodes) replaced.set(inner, null);
    replaced.set(last, { ...last, op, domain, inputs: [...inputs], outputs: [...last.outputs], attributes });
  }
  if (replaced.size === 0) return model;
  const nodes = graph.nodes.flatMap((node) => (replaced.has(node) ? (replaced.get(node) ?? []) : [node]));
  return { ...model, opsets: new Map([["com.microsoft", 1], ...model.opsets]), graph: { ...graph, nodes } };
}
