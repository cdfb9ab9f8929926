import { atomsOf, evaluateDim, isStatic, mulDims } from "../../onnx/dims.ts";
import { isFloating } from "../../onnx/element-type.ts";
import type { Graph, Node, Value, ValueType } from "../../onnx/ir.ts";
import { readNames } from "../../onnx/structure.ts";
import type { FrozenNodes } from "./frozen-nodes.ts";
import { minimumCut, type Pipe } from "./minimum-cut.ts";
import { productWork } from "./work.ts";

/** Symbols of the inputs' axes. */
export interface Axes {
  readonly batch: string;
  /** Null for inputs without an axis of tokens. */
  readonly tokens: string | null;
}

/** Where a training graph is cut. */
export interface PrefixCut {
  /** What is stored of every sample: float32 [batch, ...] or [batch*tokens, ...]. */
  readonly values: readonly Value[];
  /** Outputs of nodes that are computed below the cut. */
  readonly below: ReadonlySet<string>;
  /** Share of all forward and backward products of a step that lie below. */
  readonly workShare: number;
}

/** Length for which a sample's work and bytes are compared; both grow with it alike. */
const TOKENS = 64;

/**
 * Doing all frozen products again costs as much as this many times what it takes to store every result that they have: a
 * half of all bytes are stored only for a quarter of all the work or more.
 */
const WORK_TO_BYTES = 2;

/** A prefix with a smaller share of a step's products is not worth an extra process and a store. */
export const LEAST_SHARE = 0.1;

/** Batch and tokens: the first two axes of the inputs. Null when no input has a batch of any size. */
export function axesOf(inputs: readonly Value[]): Axes | null {
  const batch = inputs.map(({ shape }) => shape[0]).find((dim) => typeof dim === "string");
  if (typeof batch !== "string") return null;
  const ofTokens = inputs.find(({ type, shape }) => !isFloating(type) && shape.length === 2 && shape[0] === batch);
  const tokens = ofTokens?.shape[1];
  return { batch, tokens: typeof tokens === "string" ? tokens : null };
}

/**
 * True for a value whose rows can be kept for each sample: float32 [batch, ...] with at most one axis of tokens, or
 * [batch*tokens, ...].
 */
function isStorable({ type, shape: [first = 0, ...rest] }: ValueType, { batch, tokens }: Axes): boolean {
  if (type !== "float32") return false;
  if (tokens !== null && first === mulDims(batch, tokens)) return isStatic(rest);
  const symbols = rest.filter((dim) => typeof dim === "string");
  return first === batch && symbols.length <= 1 && symbols.every((dim) => dim === tokens);
}

/**
 * Chooses what to store of each sample so that the frozen part of a training graph need not be run again: a minimum cut. A
 * frozen node lies below the cut, or above, where it is run in every step. The cut costs
 *   sum of bytes of the values that are made below and read above + w * sum of multiplications of products above,
 * with w such that doing all products again costs {@link WORK_TO_BYTES} times what storing the results of all takes. So block
 * boundaries are stored and not what lies inside blocks, and masks and positions, which cost no products, are computed again. Of
 * equal cuts the highest is taken.
 *
 * @returns null when there is no such cut, or no product below it.
 */
export function findCut(graph: Graph, frozen: FrozenNodes, axes: Axes): PrefixCut | null {
  const sizes = new Map([[axes.batch, 1], ...(axes.tokens === null ? [] : [[axes.tokens, TOKENS] as const])]);
  const hasBatch = ({ outputs: [name = ""] }: Node): boolean =>
    graph.values.get(name)?.shape.some((dim) => atomsOf(dim).includes(axes.batch)) ?? false;
  const work = frozen.nodes.map((node) => (hasBatch(node) ? productWork(graph, node, sizes) : 0));
  const frozenWork = work.reduce((a, b) => a + b, 0);
  if (frozenWork === 0) return null;
  const network = networkOf(graph, frozen, axes, sizes);
  const cut = (workPrice: number) => {
    const priced = work.flatMap((w, i) => (w > 0 ? [{ from: SOURCE, to: FIRST + i, capacity: w * workPrice }] : []));
    return minimumCut(network.vertices, [...network.pipes, ...priced], SOURCE, SINK);
  };
  const everything = storingAll(frozen, network, work);
  if (everything === Number.POSITIVE_INFINITY) return null;
  const { withSource } = cut((WORK_TO_BYTES * everything) / frozenWork);
  const below = new Set<string>();
  let workBelow = 0;
  frozen.nodes.forEach((node, i) => {
    if (!withSource[FIRST + i]) return;
    workBelow += work[i] as number;
    for (const name of node.outputs) if (name !== "") below.add(name);
  });
  if (workBelow === 0) return null;
  const values = [...network.valueVertex].flatMap(([name, vertex]) => {
    const known = graph.values.get(name);
    return below.has(name) && !withSource[vertex] && known ? [{ name, ...known }] : [];
  });
  const allWork = graph.nodes.reduce((sum, node) => sum + productWork(graph, node, sizes), 0);
  return { values, below, workShare: workBelow / allWork };
}

const [SOURCE, SINK, FIRST] = [0, 1, 2];

interface Network {
  readonly vertices: number;
  readonly pipes: readonly Pipe[];
  readonly valueVertex: ReadonlyMap<string, number>;
}

/**
 * A vertex for every frozen node (from FIRST on, then those of masks) and one for every value that it makes. Node to value: the
 * bytes of storing it; value to reader: unlimited, so that what is read above the cut is stored or made there.
 */
function networkOf(graph: Graph, frozen: FrozenNodes, axes: Axes, sizes: ReadonlyMap<string, number>): Network {
  const pipes: Pipe[] = [];
  const valueVertex = new Map<string, number>();
  const nodes = [...frozen.nodes, ...frozen.maskNodes];
  const isInside = new Set(nodes);
  let vertices = FIRST + nodes.length;
  nodes.forEach((node, i) => {
    for (const name of node.outputs) {
      if (name === "") continue;
      valueVertex.set(name, vertices);
      const bytes = i < frozen.nodes.length ? bytesOf(graph, name, axes, sizes) : Number.POSITIVE_INFINITY;
      pipes.push({ from: FIRST + i, to: vertices++, capacity: bytes });
    }
  });
  const reads = (names: Iterable<string>, reader: number): void => {
    for (const name of names) {
      const value = valueVertex.get(name);
      if (value !== undefined) pipes.push({ from: value, to: reader, capacity: Number.POSITIVE_INFINITY });
    }
  };
  nodes.forEach((node, i) => {
    reads(readNames(node), FIRST + i);
  });
  for (const node of graph.nodes) if (!isInside.has(node)) reads(readNames(node), SINK);
  reads(
    graph.outputs.map(({ name }) => name),
    SINK,
  );
  return { vertices, pipes, valueVertex };
}

/** Bytes of a value per sample; infinite when it cannot be stored. */
function bytesOf(graph: Graph, name: string, axes: Axes, sizes: ReadonlyMap<string, number>): number {
  const value = graph.values.get(name);
  if (!value || !isStorable(value, axes)) return Number.POSITIVE_INFINITY;
  return 4 * value.shape.reduce<number>((n, dim) => n * (evaluateDim(dim, sizes) ?? 0), 1);
}

/** Bytes per sample when no product with a frozen matrix is done again; infinite when that cannot be. */
function storingAll(frozen: FrozenNodes, network: Network, work: readonly number[]): number {
  const forced = frozen.nodes.flatMap((node, i) => {
    const hasMatrix = node.inputs.some((name) => name !== "" && !frozen.fed.has(name));
    return hasMatrix && (work[i] as number) > 0
      ? [{ from: SOURCE, to: FIRST + i, capacity: Number.POSITIVE_INFINITY }]
      : [];
  });
  return minimumCut(network.vertices, [...network.pipes, ...forced], SOURCE, SINK).cost;
}
