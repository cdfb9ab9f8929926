import { z } from "zod";
import { dropUnread } from "../adapters/float-product.ts";
import { indexGraph } from "../adapters/graph-index.ts";
import { frozenSite, transposed } from "../adapters/operands.ts";
import type { Operand, Site } from "../adapters/site.ts";
import { findSites } from "../adapters/sites.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { byteLength } from "../onnx/element-type.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Attribute, Graph, Model, Node } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { elementCount, tensorFrom } from "../onnx/tensor.ts";
import { dequantized } from "./dequantize.ts";
import { initializersOf, type PackedWeight, packedWeightOf, partOf } from "./packed-weight.ts";
import { quantizeCodes, quantizePerRow, quantizeRows } from "./quantize-weights.ts";

const blockSizes = [16, 32, 64, 128, 256] as const;

export const quantizeModelConfig = z.strictObject({
  /**
   * "int8": a scale per output, a quarter of the memory, hardly any error; "int4": blocks of 16 levels with a zero point;
   * "nf4" and "fp4": blocks with the levels of QLoRA (arXiv 2305.14314), an eighth. Default "nf4".
   */
  type: z.enum(["int8", "int4", "nf4", "fp4"]).default("nf4"),
  /** Weights along the input axis that share a scale; int8 has one per output. Default 32 for int4, 64 for nf4 and fp4. */
  blockSize: z.literal(blockSizes).optional(),
  /** Name endings of modules that keep their weights: heads, whose errors go straight into the result. */
  exclude: z.array(z.string().min(1)).default(["lm_head", "classifier", "score"]),
});
export type QuantizeModelOptions = z.input<typeof quantizeModelConfig>;

/** What became of one linear layer. */
export interface QuantizedSite {
  readonly site: string;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** |W - W'| / |W| over all entries of the weight, as Frobenius norms. */
  readonly relativeError: number;
}

export interface QuantizedModel {
  readonly model: Model;
  readonly sites: readonly QuantizedSite[];
  /** Linear layers that kept their weights, and why. */
  readonly skipped: readonly { readonly site: string; readonly reason: string }[];
}

type Options = z.output<typeof quantizeModelConfig>;

const int = (value: number): Attribute => ({ type: "int", value });

/** Nodes that take the place of one operand's reader, and the packed weight that they read. */
interface Replacement {
  readonly nodes: readonly Node[];
  readonly packed: PackedWeight;
}

/**
 * A copy of a model whose frozen linear layers are stored in 8 or 4 bits, so that training takes less memory: QLoRA with
 * "nf4". Weights only; activations, embeddings, norms and excluded modules stay. Adapters attach as before, and an adapter that
 * was trained over the result belongs to it: merged into the float model it meets other weights. Time linear in the weights
 * (some 10 ns each), memory for one layer at a time beside the result.
 *
 * @throws PeftError CONFIG_INVALID; QUANTIZE_NOTHING when no layer is left; OPSET for int8 below opset 13
 * @example
 * const { model: compressed, sites } = quantizeModel(await readModel("model.onnx"), { type: "nf4" });
 * await writeModel(compressed, "model_nf4.onnx");
 */
export function quantizeModel(original: Model, input: QuantizeModelOptions = {}): QuantizedModel {
  const options = parseConfig(quantizeModelConfig, input, "quantizeModel");
  const model = prepareModel(original);
  if (options.type === "int8" && opsetOf(model) < 13) {
    throw new PeftError(
      "OPSET",
      `int8 needs opset 13 for scales per output; the model is in opset ${opsetOf(model)}.`,
      {
        hint: 'Choose "int4", "nf4" or "fp4", or convert the model to a newer opset.',
      },
    );
  }
  const graph: Graph = {
    ...model.graph,
    nodes: [...model.graph.nodes],
    initializers: new Map(model.graph.initializers),
  };
  const unchanged = indexGraph(model.graph);
  const sites: QuantizedSite[] = [];
  const skipped: { site: string; reason: string }[] = [];
  for (const site of findSites(model)) {
    if (site.kind !== "linear") continue;
    const reason = reasonAgainst(site, options);
    if (reason) skipped.push({ site: site.name, reason });
    else sites.push(quantizeSite(model.graph, graph, site, options));
  }
  if (sites.length === 0) {
    throw new PeftError("QUANTIZE_NOTHING", "The model has no linear layer whose weight could be quantised.", {
      details: { skipped },
    });
  }
  dropUnread(graph, unchanged);
  const opsets = new Map([["com.microsoft", 1], ...model.opsets]);
  return { model: { ...model, opsets, metadata: new Map(model.metadata), graph }, sites, skipped };
}

function reasonAgainst(site: Site, { exclude }: Options): string | null {
  if (site.packed) return `its weight is packed already (${site.packed.form})`;
  if (exclude.some((ending) => site.name === ending || site.name.endsWith(`.${ending}`))) return "it is excluded";
  const readers = new Set(site.uses.map(({ weight }) => weight.node));
  return site.uses.every(({ weight }) => !weight.product && readers.has(weight.node)) ? null : "its weight is fused";
}

function quantizeSite(source: Graph, target: Graph, site: Site, options: Options): QuantizedSite {
  const own = frozenSite(source, site).weight();
  const { inFeatures, outFeatures } = site;
  const weight = site.fanInFanOut ? transposed(own, inFeatures, outFeatures) : own; // [out, in]
  const name = freshName(target, site.name);
  let packed: PackedWeight | undefined;
  for (const { weight: operand } of site.uses) {
    const replacement =
      options.type === "int8"
        ? withInt8(target, operand, name, weight, site)
        : withFourBits(target, operand, name, weight, site, options);
    target.nodes.splice(target.nodes.indexOf(operand.node), 1, ...replacement.nodes);
    packed = replacement.packed;
  }
  if (!packed) throw new PeftError("UNKNOWN_VALUE", `The module "${site.name}" is used nowhere.`);
  const before = partOf(source, site.weight);
  const bytesAfter = initializersOf(packed).reduce((sum, part) => sum + partOf(target, part).data.length, 0);
  const rounded = dequantized(target, packed);
  const [rows = 0, columns = 0] = packed.dims;
  const inOrder = options.type === "int8" && rows === inFeatures && packed.layout === "tensor" && packed.axis === 1;
  return {
    site: site.name,
    bytesBefore: byteLength(before.type, elementCount(before.dims)),
    bytesAfter,
    relativeError: relativeError(weight, inOrder ? transposed(rounded, rows, columns) : rounded),
  };
}

function relativeError(weight: Float32Array, rounded: Float32Array): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < weight.length; i++) {
    const value = weight[i] as number;
    difference += (value - (rounded[i] as number)) ** 2;
    norm += value * value;
  }
  return norm === 0 ? 0 : Math.sqrt(difference / norm);
}

/** DequantizeLinear with a scale per output in front of the reader, in the layout that it reads. */
function withInt8(graph: Graph, { node, index }: Operand, name: string, weight: Float32Array, site: Site): Replacement {
  const { inFeatures, outFeatures } = site;
  const readsRows = intAttribute(node, "transB", 0) !== 0;
  const suffix = readsRows ? "" : "_transposed";
  const { data, scales } = quantizePerRow(weight, outFeatures, inFeatures);
  const layout = readsRows ? data : Int8Array.from(transposed(Float32Array.from(data), outFeatures, inFeatures));
  const dims = readsRows ? [outFeatures, inFeatures] : [inFeatures, outFeatures];
  const inputs = [`${name}${suffix}_quantized`, `${name}_scale`];
  graph.initializers.set(inputs[0] ?? "", tensorFrom("int8", dims, layout));
  graph.initializers.set(inputs[1] ?? "", tensorFrom("float32", [outFeatures], scales));
  const output = `${node.outputs[0]}:weight`;
  const dequantize: Node = {
    ...{ name: `${node.name}/DequantizeLinear`, op: "DequantizeLinear", domain: "", inputs, outputs: [output] },
    ...{ attributes: { axis: int(readsRows ? 0 : 1) }, metadata: node.metadata },
  };
  const reader = { ...node, inputs: node.inputs.map((input, i) => (i === index ? output : input)) };
  return { nodes: [dequantize, reader], packed: packedOf(graph, dequantize) };
}

/** MatMulNBits or MatMulBnb4 in the place of MatMul, Gemm or FusedMatMul; a bias of Gemm is added behind it. */
function withFourBits(
  graph: Graph,
  { node }: Operand,
  name: string,
  weight: Float32Array,
  { inFeatures, outFeatures }: Site,
  { type, blockSize }: Options,
): Replacement {
  const size = blockSize ?? (type === "int4" ? 32 : 64);
  const common = { K: int(inFeatures), N: int(outFeatures), block_size: int(size) };
  const set = (
    suffix: string,
    kind: "uint8" | "float32",
    dims: number[],
    values: Uint8Array | Float32Array,
  ): string => {
    graph.initializers.set(`${name}${suffix}`, tensorFrom(kind, dims, values));
    return `${name}${suffix}`;
  };
  const fused = (op: string, inputs: string[], attributes: Node["attributes"]): Replacement => {
    const [output = ""] = node.outputs;
    const bias = node.op === "Gemm" ? (node.inputs[2] ?? "") : "";
    const made = bias === "" ? output : `${output}:product`;
    const { metadata } = node;
    const product: Node = {
      name: node.name,
      op,
      domain: "com.microsoft",
      inputs,
      outputs: [made],
      attributes,
      metadata,
    };
    const add = { name: `${node.name}/bias`, op: "Add", domain: "", inputs: [made, bias], outputs: [output] };
    const nodes = bias === "" ? [product] : [product, { ...add, attributes: {}, metadata }];
    return { nodes, packed: packedOf(graph, product) };
  };
  const [x = ""] = node.inputs;
  if (type === "int4") {
    const blocks = Math.ceil(inFeatures / size);
    const packed = quantizeRows(weight, outFeatures, inFeatures, { bits: 4, blockSize: size, hasZeroPoint: true });
    const zeros = packed.zeroPoints ?? new Uint8Array();
    const inputs = [
      x,
      set("_Q4", "uint8", [outFeatures, blocks, size / 2], packed.data),
      set("_scales", "float32", [outFeatures * blocks], packed.scales),
      set("_zero_points", "uint8", [zeros.length], zeros),
    ];
    return fused("MatMulNBits", inputs, { ...common, bits: int(4), accuracy_level: int(0) });
  }
  const codeBook = type === "fp4" ? "fp4" : "nf4";
  const packed = quantizeCodes(weight, outFeatures, inFeatures, { codeBook, blockSize: size });
  const inputs = [
    x,
    set("_Bnb4", "uint8", [packed.data.length], packed.data),
    set("_absmax", "float32", [packed.scales.length], packed.scales),
  ];
  return fused("MatMulBnb4", inputs, { ...common, quant_type: int(codeBook === "nf4" ? 1 : 0), transB: int(1) });
}

function packedOf(graph: Graph, node: Node): PackedWeight {
  const packed = packedWeightOf(graph, node);
  if (!packed) throw new PeftError("UNKNOWN_VALUE", `The weight written for "${node.name}" cannot be read back.`);
  return packed;
}

/** "<site>.weight", or a name like it where the graph has one already. */
function freshName(graph: Graph, site: string): string {
  const suffixes = ["_Q4", "_Bnb4", "_quantized", "_transposed_quantized"];
  let name = `${site}.weight`;
  for (let i = 1; suffixes.some((suffix) => graph.initializers.has(`${name}${suffix}`)); i++)
    name = `${site}.weight_${i}`;
  return name;
}
