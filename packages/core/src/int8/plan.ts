import { indexGraph, longestChain } from "../adapters/graph-index.ts";
import { transposed } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Graph, Model, TensorData } from "../onnx/ir.ts";
import { elementCount, tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { dequantized } from "../quantization/dequantize.ts";
import { type PackedWeight, packedWeightOf, partOf } from "../quantization/packed-weight.ts";
import { type FrozenProduct, frozenMatrix, frozenProductOf, productKey, weightsOf } from "./frozen-products.ts";
import { type Int8Matrix, quantizeColumns, type WeightBits } from "./quantize-columns.ts";

/** The 8-bit forms of one frozen matrix M [in, out]. */
export interface Int8Linear {
  /** Module path, or the weight's own name where it belongs to no site. */
  readonly name: string;
  /** M itself, its rows multiplied by s; a scale per output channel. null: the file computes in integers already. */
  readonly forward: Int8Matrix | null;
  /** Mᵀ [out, in], a scale per input channel. */
  readonly backward: Int8Matrix;
  /** 1 / s per input channel: x is multiplied by it, M's rows by s. null: no smoothing. */
  readonly smoothing: TensorData | null;
}

/** Which products of a model are computed in 8-bit integers, with their weights. Made once, used by every training graph. */
export interface Int8Plan {
  /** 7 where sums of two 8-bit products saturate: see `detectWeightBits`. */
  readonly bits: WeightBits;
  /** By the key of the product's weight. */
  readonly linears: ReadonlyMap<string, Int8Linear>;
  /** Products that stay in float32, and why. */
  readonly kept: readonly { readonly name: string; readonly reason: string }[];
  /** Other initialisers of the model under their names, where they were stored beside the weights. */
  readonly others: ReadonlyMap<string, TensorData>;
}

export interface Int8PlanOptions {
  readonly bits: WeightBits;
  /** Takes each tensor as it is made and says where it lies from then on; default: in memory. */
  readonly store?: (tensor: TensorData) => TensorData;
  /** Also store what else the model reads, so that a graph's external data lies in one place. Default true. */
  readonly storeOthers?: boolean;
  /** s per input channel of a product, by its key. */
  readonly smoothing?: ReadonlyMap<string, Float32Array>;
  /** Why a product stays in float32, by its key. */
  readonly keep?: ReadonlyMap<string, string>;
}

/** Below this many weights (a head of few classes) the quantisation of x costs more than the product. */
export const SMALLEST_PRODUCT = 1 << 14;
/** What may stand between a weight and its product. */
const carriers = new Set(["Transpose", "DequantizeLinear"]);
/** Weights below a page are copied into the graph in any case. */
const STORE_FROM = 4096;
const isStored = ({ type, dims, data }: TensorData): boolean =>
  type !== "string" && elementCount(dims) * 4 >= STORE_FROM && data.length >= STORE_FROM;

/** The products of a model that 8-bit arithmetic can take over, by key; each weight once. */
export function convertibleProducts(original: Model): ReadonlyMap<string, FrozenProduct> {
  const index = indexGraph(prepareModel(original).graph);
  const found = new Map<string, FrozenProduct>();
  for (const node of index.graph.nodes) {
    const product = frozenProductOf(index, node);
    if (!product || product.inFeatures * product.outFeatures < SMALLEST_PRODUCT) continue;
    if (!found.has(productKey(product))) found.set(productKey(product), product);
  }
  return found;
}

/** Weights [in, out] that a graph multiplies by in integers, by their initialisers. */
export function integerWeights(graph: Graph): ReadonlyMap<string, PackedWeight> {
  const found = new Map<string, PackedWeight>();
  for (const node of graph.nodes) {
    const packed = node.op === "DynamicQuantizeMatMul" ? packedWeightOf(graph, node) : null;
    if (packed) found.set(packed.data, packed);
  }
  return found;
}

/**
 * Quantises the frozen weights of a model for training in 8-bit arithmetic: each matrix once for the forward pass and once,
 * transposed and with scales of its own, for the gradient of its input. Weights packed into fewer bits are expanded first. One
 * weight at a time is in memory. Products that the file computes in integers (dynamic quantisation) keep their forward, to the bit,
 * and get the second form only.
 *
 * @throws PeftError FILE_RANGE, QUANTIZED_TYPE, QUANTIZED_BITS
 * @example
 * const file = createTensorFile("int8.weights");
 * const plan = createInt8Plan(model, { bits: await detectWeightBits(onnxruntimeNode), store: file.append });
 */
export function createInt8Plan(original: Model, options: Int8PlanOptions): Int8Plan {
  const model = prepareModel(original);
  const { bits, smoothing, keep, store = (tensor) => tensor } = options;
  const index = indexGraph(model.graph);
  const names = new Map(findSites(model).map((site) => [site.weight, site.name]));
  const linears = new Map<string, Int8Linear>();
  const kept: { name: string; reason: string }[] = [];
  const stored = ({ weight, scales }: Int8Matrix): Int8Matrix => ({ weight: store(weight), scales });
  for (const [key, product] of convertibleProducts(model)) {
    const { weight, inFeatures, outFeatures, flipped } = product;
    const name = names.get(weight) ?? weight;
    const reason = keep?.get(key);
    if (reason !== undefined) {
      kept.push({ name, reason });
      continue;
    }
    const own = frozenMatrix(model.graph, product); // M or its transpose
    const other = flipped ? transposed(own, outFeatures, inFeatures) : transposed(own, inFeatures, outFeatures);
    const [forward, backward] = flipped ? [other, own] : [own, other];
    const s = smoothing?.get(key) ?? null;
    linears.set(key, {
      name,
      forward: stored(quantizeColumns(forward, inFeatures, outFeatures, bits, s)),
      // The gradient with respect to the smoothed x is dY·(s * M)ᵀ: a column of Mᵀ times s, which its scale takes up.
      backward: stored(scaleColumns(quantizeColumns(backward, outFeatures, inFeatures, bits), s)),
      smoothing: s
        ? tensorFrom(
            "float32",
            [inFeatures],
            s.map((v) => 1 / v),
          )
        : null,
    });
  }
  for (const [key, packed] of integerWeights(model.graph)) {
    const [inFeatures = 0, outFeatures = 0] = packed.dims;
    const matrix = transposed(dequantized(model.graph, packed), inFeatures, outFeatures);
    const backward = stored(quantizeColumns(matrix, outFeatures, inFeatures, bits));
    linears.set(key, { name: names.get(key) ?? key, forward: null, backward, smoothing: null });
  }
  const others =
    options.store && options.storeOthers !== false
      ? storeOthers(model, index, linears, store)
      : new Map<string, TensorData>();
  return { bits, linears, kept, others };
}

/**
 * The plan without some products, which stay in float32.
 * @param reasons why, by the key of the product.
 */
export function keepInFloat32(
  original: Model,
  plan: Int8Plan,
  reasons: ReadonlyMap<string, string>,
  store?: (tensor: TensorData) => TensorData,
): Int8Plan {
  const model = prepareModel(original);
  const [linears, others, kept] = [new Map(plan.linears), new Map(plan.others), [...plan.kept]];
  const products = convertibleProducts(model);
  for (const [key, reason] of reasons) {
    const linear = linears.get(key);
    const product = products.get(key);
    if (!linear || !product) continue;
    linears.delete(key);
    kept.push({ name: linear.name, reason });
    if (!store) continue;
    for (const name of weightsOf(product)) {
      const tensor = partOf(model.graph, name);
      if (isStored(tensor)) others.set(name, store(tensor));
    }
  }
  return { ...plan, linears, others, kept };
}

function scaleColumns({ weight, scales }: Int8Matrix, factors: Float32Array | null): Int8Matrix {
  if (!factors) return { weight, scales };
  const changed = toFloat32Array(scales).map((v, j) => v * (factors[j] as number));
  return { weight, scales: tensorFrom("float32", scales.dims, changed) };
}

/** External data of a graph lies in one folder: what a training graph still reads goes to the same place. */
function storeOthers(
  model: Model,
  index: ReturnType<typeof indexGraph>,
  linears: ReadonlyMap<string, Int8Linear>,
  store: (tensor: TensorData) => TensorData,
): Map<string, TensorData> {
  /** Read by nothing but products that were converted, through what may stand before a weight. */
  const isConverted = (name: string, depth = 0): boolean => {
    const readers = index.consumers.get(name) ?? [];
    if (readers.length === 0 || index.pinned.has(name) || depth > longestChain) return false;
    return readers.every((node) => {
      const product = frozenProductOf(index, node);
      if (product && (node.inputs[1] === name || weightsOf(product).includes(name)))
        return linears.has(productKey(product));
      return carriers.has(node.op) && isConverted(node.outputs[0] ?? "", depth + 1);
    });
  };
  const others = new Map<string, TensorData>();
  for (const [name, tensor] of model.graph.initializers) {
    if (isStored(tensor) && !isConverted(name)) others.set(name, store(tensor));
  }
  return others;
}
