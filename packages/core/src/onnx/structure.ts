import type { Graph, Node } from "./ir.ts";
import type { Problem } from "./problems.ts";

/** Sub-graphs of a node (If, Loop, Scan). */
export function subgraphsOf(node: Node): Graph[] {
  return Object.values(node.attributes).flatMap((attribute) => {
    if (attribute.type === "graph") return [attribute.value];
    return attribute.type === "graphs" ? [...attribute.value] : [];
  });
}

/** Names that a graph takes from the graphs around it. Linear in its nodes, sub-graphs included. */
export function capturedNames(graph: Graph): Set<string> {
  const own = new Set<string>(graph.initializers.keys());
  for (const { name } of graph.inputs) own.add(name);
  for (const node of graph.nodes) for (const output of node.outputs) own.add(output);
  const captured = new Set<string>();
  for (const node of graph.nodes) for (const name of readNames(node)) if (!own.has(name)) captured.add(name);
  for (const { name } of graph.outputs) if (!own.has(name)) captured.add(name);
  return captured;
}

/** Every name a node needs, those of its sub-graphs included; absent optional inputs are left out. */
export function readNames(node: Node): Set<string> {
  const names = new Set<string>();
  for (const input of node.inputs) if (input !== "") names.add(input);
  for (const graph of subgraphsOf(node)) for (const name of capturedNames(graph)) names.add(name);
  return names;
}

/**
 * Nodes in an order in which every value is produced before it is read; nodes that are in order already stay where they
 * are. A cycle is returned as its nodes. Iterative: chains of a million nodes do not overflow the stack.
 */
export function sortNodes(nodes: readonly Node[]): { order: Node[] } | { cycle: Node[] } {
  const producer = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const output of node.outputs) if (output !== "") producer.set(output, i);
  });
  const needs = nodes.map((node) => [...readNames(node)].flatMap((name) => producer.get(name) ?? []));
  const state = new Uint8Array(nodes.length); // 0 new, 1 on the stack, 2 done
  const order: Node[] = [];
  for (let root = 0; root < nodes.length; root++) {
    if (state[root] !== 0) continue;
    const stack = [{ node: root, next: 0 }];
    state[root] = 1;
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const need = needs[top.node]?.[top.next++];
      if (need === undefined) {
        state[top.node] = 2;
        order.push(nodes[top.node] as Node);
        stack.pop();
      } else if (state[need] === 0) {
        state[need] = 1;
        stack.push({ node: need, next: 0 });
      } else if (state[need] === 1) {
        const start = stack.findIndex(({ node }) => node === need);
        return { cycle: stack.slice(start).map(({ node }) => nodes[node] as Node) };
      }
    }
  }
  return { order };
}

interface Scope {
  readonly names: ReadonlySet<string>;
  readonly outer: Scope | null;
}

const isVisible = (name: string, scope: Scope | null): boolean =>
  scope !== null && (scope.names.has(name) || isVisible(name, scope.outer));

const label = (node: Node): string => `${node.op} "${node.name || node.outputs.find((name) => name !== "") || ""}"`;

/** Names of a graph, with every name that is defined twice reported. */
function defineNames(graph: Graph, where: string, problems: Problem[]): Set<string> {
  const names = new Set<string>();
  const define = (name: string, what: string): void => {
    if (names.has(name))
      problems.push({ code: "ONNX_INVALID", message: `"${name}" is defined again by ${what} of ${where}.` });
    names.add(name);
  };
  for (const { name } of graph.inputs) define(name, "an input");
  const inputs = new Set(names);
  for (const name of graph.initializers.keys()) {
    // An input may have a default value of the same name.
    if (!inputs.has(name)) define(name, "an initializer");
  }
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output !== "") define(output, label(node));
  }
  const outputs = new Set<string>();
  for (const { name } of graph.outputs) {
    if (outputs.has(name))
      problems.push({ code: "ONNX_INVALID", message: `"${name}" is twice an output of ${where}.` });
    outputs.add(name);
  }
  return names;
}

function checkScope(graph: Graph, outer: Scope | null, where: string, problems: Problem[]): void {
  const scope: Scope = { names: defineNames(graph, where, problems), outer };
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      if (input !== "" && !isVisible(input, scope)) {
        problems.push({
          code: "ONNX_INVALID",
          message: `${label(node)} of ${where} reads "${input}", which nothing produces.`,
        });
      }
    }
    for (const inner of subgraphsOf(node)) checkScope(inner, scope, `${label(node)}/${inner.name}`, problems);
  }
  for (const { name } of graph.outputs) {
    if (!isVisible(name, scope)) {
      problems.push({ code: "ONNX_INVALID", message: `output "${name}" of ${where} is produced by nothing.` });
    }
  }
  const sorted = sortNodes(graph.nodes);
  if ("order" in sorted) graph.nodes = sorted.order;
  else {
    const path = sorted.cycle.map(label).slice(0, 10).join(" -> ");
    problems.push({ code: "ONNX_INVALID", message: `nodes of ${where} form a cycle: ${path}.` });
  }
}

/**
 * Checks that every name is defined once and every name that is read is defined, and puts the nodes (of sub-graphs too)
 * into topological order in place. Every problem is reported, none is thrown.
 */
export function checkStructure(graph: Graph, problems: Problem[]): void {
  checkScope(graph, null, `graph "${graph.name}"`, problems);
}
