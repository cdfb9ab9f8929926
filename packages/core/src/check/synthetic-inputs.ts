import { PeftError } from "../errors.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { createRandom, type Random } from "../random/random.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { fedInputs, type InputSizes, inputDims } from "./input-sizes.ts";

/** Operators between an input of indices and the table that they index. */
const keepsIndices = new Set([
  "Cast",
  "Reshape",
  "Identity",
  "Squeeze",
  "Unsqueeze",
  "Flatten",
  "Expand",
  "Slice",
  "Transpose",
]);

/** Number of rows of the smallest table that the indices in `name` choose from, or null. */
function tableRows(graph: Graph, name: string): number | null {
  const carriers = new Set([name]);
  let rows: number | null = null;
  for (const node of graph.nodes) {
    if (keepsIndices.has(node.op) && carriers.has(node.inputs[0] ?? "")) {
      for (const output of node.outputs) carriers.add(output);
    }
    const table = graph.initializers.get(node.inputs[0] ?? "");
    const isLookUp =
      node.op === "Gather" || node.op === "GatherBlockQuantized" || node.op === "EmbedLayerNormalization";
    const indices = node.op === "EmbedLayerNormalization" ? node.inputs[0] : node.inputs[1];
    if (!isLookUp || !carriers.has(indices ?? "")) continue;
    const found =
      node.op === "EmbedLayerNormalization" ? graph.initializers.get(node.inputs[2] ?? "")?.dims[0] : table?.dims[0];
    if (found !== undefined && (rows === null || found < rows)) rows = found;
  }
  return rows;
}

/** Ones, with zeros on the right of every second row of a matrix: padding, but never of a whole row. */
function maskValues(dims: readonly number[]): number[] {
  const count = dims.reduce((a, b) => a * b, 1);
  if (dims.length !== 2) return new Array<number>(count).fill(1);
  const [, columns = 1] = dims;
  const real = Math.max(1, columns - Math.floor(columns / 3));
  return Array.from({ length: count }, (_, i) => (Math.floor(i / columns) % 2 === 1 && i % columns >= real ? 0 : 1));
}

/** Values of an integer input, by what its name says it is. */
function integers(graph: Graph, { name }: Value, dims: readonly number[], random: Random): number[] {
  const count = dims.reduce((a, b) => a * b, 1);
  const last = dims.at(-1) ?? 1;
  if (/mask/i.test(name)) return maskValues(dims);
  if (/position/i.test(name)) return Array.from({ length: count }, (_, i) => i % last);
  if (/type|segment/i.test(name)) return new Array<number>(count).fill(0);
  if (/bbox|boxes/i.test(name)) return Array.from({ length: count }, (_, i) => i % 4);
  const rows = tableRows(graph, name);
  // The first numbers are special tokens in most vocabularies; padding in the middle of a text would be masked.
  const least = rows !== null && rows > 16 ? 4 : 0;
  if (rows !== null) return Array.from({ length: count }, () => least + Math.floor(random.uniform() * (rows - least)));
  return new Array<number>(count).fill(/length|num_logits/i.test(name) ? last : 1);
}

function tensorOf(graph: Graph, input: Value, sizes: InputSizes, random: Random): RuntimeTensor {
  const dims = inputDims(graph, input, sizes);
  const count = dims.reduce((a, b) => a * b, 1);
  const { type, name } = input;
  switch (type) {
    case "float32":
    case "float16":
    case "float64": {
      const values = /mask/i.test(name) ? maskValues(dims) : Array.from({ length: count }, () => random.normal());
      const { data } = tensorFrom(type, dims, values);
      if (type === "float32") return { type, dims, data: Float32Array.from(values) };
      if (type === "float64") return { type, dims, data: Float64Array.from(values) };
      return { type, dims, data: new Uint16Array(data.buffer, data.byteOffset, count) };
    }
    case "int64":
      return { type, dims, data: BigInt64Array.from(integers(graph, input, dims, random), BigInt) };
    case "int32":
      return { type, dims, data: Int32Array.from(integers(graph, input, dims, random)) };
    case "bool":
      return { type, dims, data: Uint8Array.from({ length: count }, () => (/use_cache/i.test(name) ? 0 : 1)) };
    case "uint8":
      return { type, dims, data: Uint8Array.from({ length: count }, () => Math.floor(random.uniform() * 256)) };
    default:
      throw new PeftError("INPUT_TYPE", `No values can be made up for the input "${name}" of type ${type}.`);
  }
}

/**
 * Made-up inputs of a model from their declared types, names and shapes: token ids below the size of the table they index,
 * masks with padding on the right, positions, segment ids, pixels and features as standard normal numbers, and caches of length 0.
 *
 * @param seed the same seed gives the same values.
 * @throws PeftError INPUT_TYPE for texts, sequences and the like
 * @example
 * await session.run(syntheticInputs(model.graph, { batch: 2, length: 8 }, 0));
 */
export function syntheticInputs(graph: Graph, sizes: InputSizes, seed: number): Record<string, RuntimeTensor> {
  const random = createRandom(seed);
  return Object.fromEntries(fedInputs(graph).map((input) => [input.name, tensorOf(graph, input, sizes, random)]));
}
