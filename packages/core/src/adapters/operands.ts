import { PeftError } from "../errors.ts";
import type { FrozenSite } from "../methods/method.ts";
import type { Graph, TensorData } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import type { Site } from "./site.ts";

/** A matrix [rows, columns] as [columns, rows]. */
export function transposed(data: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(data.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result[j * rows + i] = data[i * columns + j] as number;
  return result;
}

/** An initialiser by name. @throws PeftError UNKNOWN_VALUE */
export function initializerOf(graph: Graph, name: string): TensorData {
  const tensor = graph.initializers.get(name);
  if (!tensor) throw new PeftError("UNKNOWN_VALUE", `The graph has no initialiser named "${name}".`);
  return tensor;
}

/** True when the weight's initialiser is the transpose of the module's own weight. */
export const isFlipped = (site: Site): boolean =>
  site.kind === "linear" && !site.fanInFanOut && site.weightLayout === "in_out";

/** Weight and bias of a site in PyTorch's layout, read when asked for; each call reads anew. */
export const frozenSite = (graph: Graph, site: Site): FrozenSite => ({
  weight() {
    const data = toFloat32Array(initializerOf(graph, site.weight));
    return isFlipped(site) ? transposed(data, site.inFeatures, site.outFeatures) : data;
  },
  bias() {
    if (site.bias === undefined) throw new PeftError("NO_BIAS", `The module "${site.name}" has no bias.`);
    return toFloat32Array(initializerOf(graph, site.bias));
  },
});
