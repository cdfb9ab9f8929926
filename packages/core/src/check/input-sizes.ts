import { intAttribute } from "../onnx/infer/context.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import { toNumbers } from "../onnx/tensor.ts";

/** What the symbols of a graph's inputs are set to for one run. */
export interface InputSizes {
  readonly batch: number;
  /** Tokens, samples, pixels of a side: every axis that is neither the batch nor known from a weight. */
  readonly length: number;
}

const isPast = (name: string): boolean => /past/i.test(name);

/**
 * Dimensions of an input at the given sizes. A symbol is the batch on axis 0, 0 when it counts past tokens, the number of
 * channels of the convolution that reads the input, and the length otherwise; sums of names ("past_length + sequence_length", as
 * Optimum writes them) are added up.
 */
export function inputDims(graph: Graph, input: Value, sizes: InputSizes): number[] {
  return input.shape.map((dim, axis) => {
    if (typeof dim === "number") return dim;
    if (axis === 0) return sizes.batch;
    const parts = dim.split("+").map((part) => part.trim());
    if (parts.length > 1) return parts.reduce((sum, part) => sum + sizeOfName(part, sizes), 0);
    return (axis === 1 ? channelsOf(graph, input.name) : null) ?? sizeOfName(dim, sizes);
  });
}

function sizeOfName(name: string, { length }: InputSizes): number {
  if (/^\d+$/.test(name)) return Number(name);
  return isPast(name) && !/total/i.test(name) ? 0 : length;
}

/** Input channels of a convolution that reads the value as it is. */
function channelsOf(graph: Graph, name: string): number | null {
  for (const node of graph.nodes) {
    if (node.op !== "Conv" || node.inputs[0] !== name) continue;
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

/**
 * Lengths to try until the file runs: short ones for tokens; for images, waveforms and spectrograms those that common
 * models need (their position tables are often of one size although the axes are declared free).
 */
export function lengthCandidates(graph: Graph): readonly number[] {
  if (!hasFreeLength(graph)) return [8];
  return fedInputs(graph).some(
    (v) => isContinuous(v) && v.shape.length >= 2 && v.shape.slice(1).some((d) => typeof d === "string"),
  )
    ? [32, 64, 224, 400, 3000, 16_000, 384, 512]
    : [8, 16, 5, 32, 77, 128, 512, ...Array.from({ length: 20 }, (_, i) => i + 1)];
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
