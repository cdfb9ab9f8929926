import { isDropoutMask } from "../../graph/dropout.ts";
import type { Graph, Node } from "../../onnx/ir.ts";
import { readNames } from "../../onnx/structure.ts";

/** Operators whose result for one sample depends on the others of its batch: one scale for all that is quantised. */
const mixing = new Set(["DynamicQuantizeLinear", "DynamicQuantizeMatMul"]);

/** What of a training graph is the same in every epoch. */
export interface FrozenNodes {
  /** Nodes that depend on no trained input, no state, no dropout mask and no other sample of the batch, in order. */
  readonly nodes: readonly Node[];
  /** Values that depend on what is fed, among those of `nodes`. */
  readonly fed: ReadonlySet<string>;
  /** Products with a dropout mask that were taken for their other operand: output to that operand. */
  readonly undropped: ReadonlyMap<string, string>;
  /** Nodes that make nothing but the masks of those products. */
  readonly maskNodes: readonly Node[];
}

/**
 * Finds the part of a training graph that training does not change.
 * @param changing names of inputs that are trained, or kept by the engine and changed between steps.
 * @param ignoreDropout x * mask counts as x when x is frozen.
 */
export function frozenNodes(graph: Graph, changing: ReadonlySet<string>, ignoreDropout: boolean): FrozenNodes {
  const moving = new Set(changing);
  const masks = new Set<string>();
  const fed = new Set<string>();
  for (const { name } of graph.inputs) {
    if (isDropoutMask(name)) moving.add(name);
    else if (!changing.has(name)) fed.add(name);
  }
  const nodes: Node[] = [];
  const undropped = new Map<string, string>();
  for (const node of graph.nodes) {
    const read = [...readNames(node)];
    const x = ignoreDropout ? withoutMask(node, masks) : null;
    if (x !== null && !moving.has(x)) undropped.set(node.outputs[0] ?? "", x);
    else if (mixing.has(node.op) || read.some((name) => moving.has(name))) {
      for (const output of node.outputs) moving.add(output);
      const [from = ""] = node.inputs;
      if (isDropoutMask(from) || masks.has(from)) for (const output of node.outputs) masks.add(output);
      continue;
    }
    nodes.push(node);
    if (read.some((name) => fed.has(name))) for (const output of node.outputs) fed.add(output);
  }
  return { nodes, fed, undropped, maskNodes: onlyForMasks(graph, new Set(nodes)) };
}

/** Nodes that are not frozen and that no output depends on when the frozen ones are left out. */
function onlyForMasks(graph: Graph, frozen: ReadonlySet<Node>): Node[] {
  const needed = new Set(graph.outputs.map(({ name }) => name));
  const unneeded: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (frozen.has(node)) continue;
    if (node.outputs.some((name) => needed.has(name))) for (const name of readNames(node)) needed.add(name);
    else unneeded.push(node);
  }
  return unneeded.reverse();
}

/** x of x * mask. */
function withoutMask({ op, domain, inputs }: Node, masks: ReadonlySet<string>): string | null {
  const [x = "", mask = ""] = inputs;
  return op === "Mul" && domain === "" && masks.has(mask) && !masks.has(x) ? x : null;
}
