import type { Graph, Node } from "../onnx/ir.ts";
import { capturedNames, subgraphsOf } from "../onnx/structure.ts";

/** Nodes that only pass their input on; they disappear from finished graphs. */
const passThrough = (node: Node, keepDropout: boolean): boolean =>
  (node.op === "StopGradient" && node.domain === "onnx-peft") ||
  (node.domain === "" && (node.op === "Identity" || (!keepDropout && isIdleDropout(node))));

/** Dropout outside training is the identity; with a mask output or a training flag it is kept as it is. */
export const isIdleDropout = (node: Node): boolean =>
  node.domain === "" && node.op === "Dropout" && (node.inputs[2] ?? "") === "" && (node.outputs[1] ?? "") === "";

/** What `finish` of a builder may be asked for. */
export interface PruneOptions {
  /** Declared inputs that nobody reads are left out. Default false. */
  readonly dropUnusedInputs?: boolean;
  /** Dropout nodes stay, for a graph that is going to be trained: importing it for training gives them masks. Default false. */
  readonly keepDropout?: boolean;
}

/**
 * Removes pass-through nodes, nodes nobody reads and initialisers nobody reads. `outputs` maps output names to the
 * values they show; an Identity is added only where a name differs from its value's. A value that has the name of an output which
 * shows another one gets a new name.
 */
export function pruneDeadNodes(
  graph: Graph,
  outputs: ReadonlyMap<string, string>,
  { dropUnusedInputs = false, keepDropout = false }: PruneOptions = {},
): Graph {
  const alias = new Map<string, string>();
  const resolve = (name: string): string => {
    let current = name;
    for (let next = alias.get(current); next !== undefined; next = alias.get(current)) current = next;
    return current;
  };
  const kept: Node[] = [];
  const capturedBy = (node: Node): string[] => subgraphsOf(node).flatMap((inner) => [...capturedNames(inner)]);
  const captured = new Set(graph.nodes.flatMap(capturedBy));
  for (const node of graph.nodes) {
    const [from, to] = [node.inputs[0], node.outputs[0]];
    if (passThrough(node, keepDropout) && !captured.has(to ?? "") && from !== undefined && to !== undefined)
      alias.set(to, resolve(from));
    else kept.push({ ...node, inputs: node.inputs.map((name) => (name === "" ? "" : resolve(name))) });
  }
  const shown = [...outputs].map(([name, value]) => ({ name, source: resolve(value) }));
  const needed = new Set(shown.map(({ source }) => source));
  const alive: Node[] = [];
  for (const node of kept.reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    alive.push(node);
    for (const name of node.inputs) needed.add(name);
    for (const name of capturedBy(node)) needed.add(name);
  }
  alive.reverse();
  const inner = innerNames(alive, shown);
  const renamed = (name: string): string => inner.get(name) ?? name;
  if (inner.size > 0) {
    for (const node of alive) {
      node.inputs = node.inputs.map(renamed);
      node.outputs = node.outputs.map(renamed);
    }
  }
  for (const { name, source } of shown) {
    if (name !== source) {
      alive.push({
        name: `output/${name}`,
        op: "Identity",
        domain: "",
        inputs: [renamed(source)],
        outputs: [name],
        attributes: {},
        metadata: {},
      });
    }
  }
  const isRead = (name: string): boolean => needed.has(name);
  return {
    ...graph,
    nodes: alive,
    inputs: dropUnusedInputs ? graph.inputs.filter((v) => isRead(v.name)) : graph.inputs,
    initializers: new Map([...graph.initializers].filter(([name]) => isRead(name))),
    values: new Map([...graph.values].filter(([name]) => isRead(name) || outputs.has(name))),
  };
}

/** New names for values that nodes make under the name of an output that shows another value. */
function innerNames(
  nodes: readonly Node[],
  shown: readonly { readonly name: string; readonly source: string }[],
): Map<string, string> {
  const moved = new Set(shown.flatMap(({ name, source }) => (name === source ? [] : [name])));
  if (moved.size === 0) return new Map();
  const made = new Set(nodes.flatMap((node) => node.outputs));
  const fresh = (name: string): string => {
    let own = `${name}:inner`;
    while (made.has(own)) own = `${own}'`;
    return own;
  };
  return new Map([...moved].filter((name) => made.has(name)).map((name) => [name, fresh(name)]));
}
