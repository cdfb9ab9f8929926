import { PeftError } from "../errors.ts";
import type { FrozenSite } from "../methods/method.ts";
import type { Graph } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { dequantized } from "../quantization/dequantize.ts";
import { partOf } from "../quantization/packed-weight.ts";
import type { Operand, Site } from "./site.ts";

/** A matrix [rows, columns] as [columns, rows]. */
export function transposed(data: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(data.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result[j * rows + i] = data[i * columns + j] as number;
  return result;
}

/** Values behind an operand as they lie in memory, dequantised where they are packed. @throws PeftError UNKNOWN_VALUE */
const valuesOf = (graph: Graph, operand: Operand): Float32Array =>
  operand.packed ? dequantized(graph, operand.packed) : toFloat32Array(partOf(graph, operand.initializer));

/** True when the weight's initialiser is the transpose of the module's own weight. */
export const isFlipped = (site: Site): boolean =>
  site.kind === "linear" && !site.fanInFanOut && site.weightLayout === "in_out";

/** Weight and bias of a site in float32 and PyTorch's layout, read and dequantised when asked for; each call reads anew. */
export const frozenSite = (graph: Graph, site: Site): FrozenSite => ({
  weight() {
    const [use] = site.uses;
    if (!use) throw new PeftError("UNKNOWN_VALUE", `The module "${site.name}" is used nowhere.`);
    const data = valuesOf(graph, use.weight);
    const { slice } = use.weight;
    const all = isFlipped(site) ? transposed(data, site.inFeatures, slice?.total ?? site.outFeatures) : data;
    return slice ? all.slice(slice.start * site.inFeatures, (slice.start + slice.size) * site.inFeatures) : all;
  },
  bias() {
    const bias = site.uses[0]?.bias;
    if (!bias) throw new PeftError("NO_BIAS", `The module "${site.name}" has no bias.`);
    const data = valuesOf(graph, bias);
    return bias.slice ? data.slice(bias.slice.start, bias.slice.start + bias.slice.size) : data;
  },
});
