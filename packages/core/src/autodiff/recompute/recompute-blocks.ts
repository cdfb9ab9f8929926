import { PeftError } from "../../errors.ts";
import type { Builder } from "../../graph/builder.ts";
import { importGraph } from "../../graph/import-graph.ts";
import { leavesInReverse } from "../../graph/leaves-in-reverse.ts";
import { isFloating } from "../../onnx/element-type.ts";
import type { Graph, Node, Value } from "../../onnx/ir.ts";
import { sortNodes } from "../../onnx/structure.ts";
import { originOf } from "../origin.ts";
import { findBlocks } from "./find-blocks.ts";
import { type ForwardValue, forwardValues, typicalBytes } from "./forward-values.ts";

const COPY = "recompute/";

/** One block of the forward pass: forward nodes first..end-1, and the nodes of the backward pass that belong to them. */
interface Block {
  readonly number: number;
  readonly first: number;
  readonly end: number;
  readonly backward: Node[];
}

interface Forward {
  readonly nodes: readonly Node[];
  readonly values: ReadonlyMap<string, ForwardValue>;
}

/**
 * A differentiated graph in which activations inside a block are computed a second time for the backward pass instead of
 * being kept: what crosses from one block to the next stays, the last block stays as it is. The second computation is tied
 * to the gradient that comes in (`g.after`), because ONNX Runtime merges equal nodes and runs early what depends on nothing. It
 * consists of the same operators over the same values, dropout masks included, so gradients are equal to the bit. Where the
 * blocks lie follows from sizes alone: see `findBlocks`. A graph that has no use for it comes back as it is.
 *
 * @param graph finished and differentiated by `differentiate`.
 * @example
 * const graph = recomputeBlocks(g.finish(), g.opset);
 */
export function recomputeBlocks(graph: Graph, opset: number): Graph {
  const g = importGraph(graph, opset);
  for (const { name } of graph.outputs) g.output(g.value(name), name);
  const forward = forwardValues(g);
  const blocks = blocksOf(g, forward);
  if (blocks.length < 2) return graph;
  // From the last block to the first, as the backward pass goes.
  for (const block of blocks.slice(0, -1).reverse()) recomputeBlock(g, forward, block);
  const sorted = sortNodes(g.nodes);
  if ("cycle" in sorted) {
    throw new PeftError("GRAPH_CYCLE", `Recomputation made a cycle through "${sorted.cycle[0]?.name}".`);
  }
  g.nodes.splice(0, g.nodes.length, ...sorted.order);
  return leavesInReverse(g.finish({ name: graph.name }));
}

function blocksOf(g: Builder, { nodes, values }: Forward): Block[] {
  const ends = findBlocks(nodes.length, values.values());
  const place = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const name of node.outputs) place.set(name, i);
  });
  const blocks = ends.map((end, i): Block => ({ number: i, first: ends[i - 1] ?? 0, end, backward: [] }));
  for (const node of g.nodes) {
    const at = place.get(originOf(node) ?? "");
    if (at !== undefined) blocks.find(({ first, end }) => first <= at && at < end)?.backward.push(node);
  }
  return blocks;
}

function recomputeBlock(g: Builder, { nodes, values }: Forward, block: Block): void {
  /** Made inside the block, gone after it, and not worth keeping. */
  const isInside = (name: string): boolean => {
    const value = values.get(name);
    return value !== undefined && !value.kept && value.made >= block.first && value.lastRead < block.end;
  };
  const wanted = new Set(block.backward.flatMap((node) => node.inputs.filter(isInside)));
  if (wanted.size === 0) return;
  // Forward nodes to run again: those of wanted values, and of what these need.
  const again: Node[] = [];
  for (let i = block.end - 1; i >= block.first; i--) {
    const node = nodes[i] as Node;
    if (!node.outputs.some((name) => wanted.has(name))) continue;
    again.unshift(node);
    for (const name of node.inputs) if (isInside(name)) wanted.add(name);
  }
  const waiting = inputsThatWait(g, again, wanted);
  const readers = block.backward.filter((node) => node.inputs.some((name) => wanted.has(name) || waiting.has(name)));
  const gradient = latestGradientBefore(g, { nodes, values }, block, new Set(readers));
  if (gradient === null) return;
  const copies = new Map<string, string>();
  g.scoped(`recompute/${block.number}`, () => {
    for (const name of waiting) copies.set(name, g.after(g.value(name), gradient).name);
    for (const node of again) {
      const outputs = node.outputs.map((name) => (name === "" ? "" : `${COPY}${name}`));
      const inputs = node.inputs.map((name) => copies.get(name) ?? name);
      g.addNode({ ...node, name: `${COPY}${node.name}`, inputs, outputs, metadata: { ...node.metadata } });
      node.outputs.forEach((name, i) => {
        // The original of a value that stays is there anyway.
        if (isInside(name)) copies.set(name, outputs[i] as string);
      });
    }
  });
  for (const reader of readers) reader.inputs = reader.inputs.map((name) => copies.get(name) ?? name);
}

/** Values that a zero can be added to. */
const canWait = ({ type }: Value): boolean => isFloating(type) || type === "int64" || type === "int32";

/**
 * Inputs from outside that must wait for the gradient so that every node that runs again does: for a node none of whose
 * inputs does, its smallest input that is no constant.
 */
function inputsThatWait(g: Builder, again: readonly Node[], wanted: ReadonlySet<string>): Set<string> {
  const waiting = new Set<string>();
  for (const node of again) {
    if (node.inputs.some((name) => wanted.has(name) || waiting.has(name))) continue;
    const [smallest] = node.inputs
      .filter((name) => name !== "" && !g.initializers.has(name))
      .map((name) => g.value(name))
      .filter(canWait)
      .sort((a, b) => typicalBytes(a) - typicalBytes(b));
    if (smallest) waiting.add(smallest.name);
  }
  return waiting;
}

/**
 * The gradient to wait for: of all values that flow into the readers' part of the backward pass from outside and depend on
 * what later blocks computed, the last one. Null when there is none.
 */
function latestGradientBefore(g: Builder, { values }: Forward, block: Block, readers: ReadonlySet<Node>): Value | null {
  const isLater = (name: string): boolean =>
    (values.get(name)?.made ?? -1) >= block.end && isFloating(g.value(name).type);
  const part = new Set<string>();
  const madeAt = new Map<string, number>();
  const isBackward = (node: Node): boolean => originOf(node) !== undefined && !node.name.startsWith(COPY);
  const backward = g.nodes.filter(isBackward);
  backward.forEach((node, at) => {
    const isPart = readers.has(node) || node.inputs.some((name) => part.has(name));
    const depends = node.inputs.some((name) => madeAt.has(name) || (name !== "" && isLater(name)));
    for (const name of node.outputs) {
      if (isPart) part.add(name);
      else if (depends && name !== "" && isFloating(g.value(name).type)) madeAt.set(name, at);
    }
  });
  const taken = backward
    .filter((node) => node.outputs.some((name) => part.has(name)))
    .flatMap((node) => node.inputs.filter((name) => madeAt.has(name)));
  const [latest] = taken.sort((a, b) => (madeAt.get(b) ?? 0) - (madeAt.get(a) ?? 0));
  return latest === undefined ? null : g.value(latest);
}
