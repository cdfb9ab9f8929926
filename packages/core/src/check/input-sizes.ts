import { intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Graph, Node, Value } from "../onnx/ir.ts";
import { toNumbers } from "../onnx/tensor.ts";

/** What the symbols of a graph's inputs are set to for one run. */
export interface InputSizes {
  readonly batch: number;
  /** Tokens, samples, pixels of a side: every axis that is neither the batch nor known from a weight. */
  readonly length: number;
  /** Of axes of images, waveforms and states, in models that read token ids beside them; default `length`. */
  readonly extent?: number;
}

const isPast = (name: string): boolean => /past/i.test(name);

/**
 * Dimensions of an input at the given sizes. A symbol is the batch on axis 0, 0 when it counts past tokens, the number of
 * channels of the convolution that reads the input, the extent where it is one of an image and the like, and the length otherwise; sums of names
 * ("past_length + sequence_length", as Optimum writes them) are added up.
 */
export function inputDims(graph: Graph, input: Value, sizes: InputSizes): number[] {
  const extents = sizes.extent === undefined ? new Set<string>() : continuousSymbols(graph);
  const sizeOf = (name: string): number => {
    if (/^\d+$/.test(name)) return Number(name);
    if (isPast(name) && !/total/i.test(name)) return 0;
    return extents.has(name) ? (sizes.extent ?? sizes.length) : sizes.length;
  };
  return input.shape.map((dim, axis) => {
    if (typeof dim === "number") return dim;
    if (axis === 0) return sizes.batch;
    const parts = dim.split("+").map((part) => part.trim());
    if (parts.length > 1) return parts.reduce((sum, part) => sum + sizeOf(part), 0);
    return (axis === 1 ? channelsOf(graph, input.name) : null) ?? sizeOf(dim);
  });
}

/** Symbols of images, waveforms, spectrograms and states: inputs of numbers that a caller gives. */
function continuousSymbols(graph: Graph): Set<string> {
  const inputs = fedInputs(graph).filter((v) => isContinuous(v) && v.shape.length >= 2 && !isCache(v));
  return new Set(inputs.flatMap((v) => v.shape.filter((d, axis) => axis > 0 && typeof d === "string") as string[]));
}

/** Keys and values of earlier tokens. */
const isCache = ({ name, type, shape }: Value): boolean => /float/.test(type) && shape.length >= 3 && isPast(name);

/** Axes that only token ids and the like have. */
const hasOwnTokens = (graph: Graph): boolean => {
  const extents = continuousSymbols(graph);
  return fedInputs(graph).some(({ type, shape }) =>
    shape.some((d, axis) => /int/.test(type) && axis > 0 && typeof d === "string" && !isPast(d) && !extents.has(d)),
  );
};

/** Convolutions that read one of the values as it is, or in another type. */
function convolutionsOf(graph: Graph, names: readonly string[]): Node[] {
  const carriers = new Set(names);
  const found: Node[] = [];
  for (const node of graph.nodes) {
    if (!carriers.has(node.inputs[0] ?? "")) continue;
    if (node.op === "Cast" || node.op === "Identity") carriers.add(node.outputs[0] ?? "");
    else if (node.op === "Conv") found.push(node);
  }
  return found;
}

/** Input channels of a convolution that reads the value. */
function channelsOf(graph: Graph, name: string): number | null {
  for (const node of convolutionsOf(graph, [name])) {
    const channels = graph.initializers.get(node.inputs[1] ?? "")?.dims[1];
    if (channels !== undefined) return channels * intAttribute(node, "group", 1);
  }
  return null;
}

/** True when some axis other than the first is a symbol that a caller may choose. */
export const hasFreeLength = (graph: Graph): boolean =>
  fedInputs(graph).some(({ shape }) => shape.some((d, axis) => axis > 0 && typeof d === "string" && !isPast(d)));

export const hasFreeBatch = (graph: Graph): boolean =>
  fedInputs(graph).some(({ shape }) => typeof shape[0] === "string");

/** Inputs that are fed: those with a default cannot be. */
export const fedInputs = (graph: Graph): Value[] => graph.inputs.filter(({ name }) => !graph.initializers.has(name));

const isContinuous = ({ type, shape }: Value): boolean =>
  /float/.test(type) && shape.some((d) => typeof d === "string" && !isPast(d));

/** True for a model that reads a sequence of vectors: [batch, tokens, features]. */
export const hasFeatures = (graph: Graph): boolean =>
  fedInputs(graph).some(
    (v) => isContinuous(v) && v.shape.length === 3 && typeof v.shape[2] === "number" && !isCache(v),
  );

const tokenLengths: readonly number[] = [8, 16, 5, 32, 77, 128, 512, ...Array.from({ length: 20 }, (_, i) => i + 1)];
const extents: readonly number[] = [32, 64, 224, 400, 3000, 16_000, 384, 512];

/** Numbers of one input beyond which a size is not tried: a side of 16,000 samples is none of an image. */
const mostElements = 4e6;

/**
 * Sizes to try until the file runs, in order: short lengths for tokens; for images, waveforms and spectrograms those that common
 * models need (their position tables are often of one size although the axes are declared free), after those that the tables of the graph speak for.
 * Sequences of vectors may be of either kind. Where a model reads both, every pair.
 */
export function sizeCandidates(graph: Graph, batch: number): readonly InputSizes[] {
  if (!hasFreeLength(graph)) return [{ batch, length: 8 }];
  const written = sizesInShapes(graph).lengths;
  const isOfExtent = continuousSymbols(graph).size > 0;
  const lengths = [...new Set([...tokenLengths, ...written])];
  // One vector last: it fits a table of any length by broadcasting.
  const steps = hasFeatures(graph) ? [...tokenLengths.filter((length) => length > 1), 1] : [];
  const sides = [...new Set([...sidesOf(graph), ...extents, ...written, ...steps])];
  const candidates: InputSizes[] = !isOfExtent
    ? lengths.map((length) => ({ batch, length }))
    : !hasOwnTokens(graph)
      ? sides.map((length) => ({ batch, length }))
      : sides.flatMap((extent) => tokenLengths.slice(0, 12).map((length) => ({ batch, length, extent })));
  const fits = (sizes: InputSizes): boolean =>
    fedInputs(graph).every((input) => inputDims(graph, input, sizes).reduce((a, b) => a * b, 1) <= mostElements);
  return candidates.filter(fits);
}

/**
 * Sides of images that a table of positions fits: n rows for the patches of a convolution of stride s, with up to two more for tokens of
 * its own, are a side of s * sqrt(n).
 */
function sidesOf(graph: Graph): number[] {
  const sides = new Set<number>();
  const images = fedInputs(graph).flatMap(({ name, shape }) => (shape.length === 4 ? [name] : []));
  for (const node of convolutionsOf(graph, images)) {
    const width = graph.initializers.get(node.inputs[1] ?? "")?.dims[0];
    const stride = intsAttribute(node, "strides")?.[0] ?? 1;
    for (const { dims } of graph.initializers.values()) {
      const rows = dims.at(-2);
      if (dims.at(-1) !== width || rows === undefined || (dims.length === 3 && dims[0] !== 1) || dims.length > 3)
        continue;
      for (const own of [0, 1, 2]) {
        const patches = Math.sqrt(rows - own);
        if (Number.isInteger(patches) && patches > 1) sides.add(patches * stride);
      }
    }
  }
  return [...sides].slice(0, 6);
}

/** Sizes that constant shapes of a graph hold: what an exporter wrote in is among them, and then nothing else runs. */
export function sizesInShapes(graph: Graph): {
  readonly batches: readonly number[];
  readonly lengths: readonly number[];
} {
  const [batches, lengths] = [new Set<number>(), new Set<number>()];
  const constants = new Map(
    graph.nodes.flatMap(({ op, outputs, attributes }) => {
      const value = op === "Constant" ? attributes["value"] : undefined;
      return value?.type === "tensor" ? [[outputs[0] ?? "", value.value] as const] : [];
    }),
  );
  for (const { op, inputs } of graph.nodes) {
    if (op !== "Reshape" && op !== "Expand") continue;
    const shape = graph.initializers.get(inputs[1] ?? "") ?? constants.get(inputs[1] ?? "");
    if (shape?.type !== "int64") continue;
    const [first = 0, ...rest] = toNumbers(shape);
    if (first >= 1 && first <= 64) batches.add(first);
    for (const size of rest) if (size > 1 && size <= 4096) lengths.add(size);
  }
  return { batches: [...batches].slice(0, 6), lengths: [...lengths].slice(0, 12) };
}
