import { PeftError } from "../errors.ts";
import type { ElementType } from "../onnx/element-type.ts";
import { elementTypes, isFloating } from "../onnx/element-type.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Graph, Node, TensorData } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";
import type { CodeBook } from "./code-books.ts";

interface PackedBase {
  /** The operator that reads it. */
  readonly form: string;
  /** Shape of the floating-point weight. */
  readonly dims: readonly number[];
  /** Element type of the floating-point weight: that of the scales. */
  readonly type: ElementType;
  /** Bits of one weight, scales not counted. */
  readonly bits: number;
  /** Names of the initialisers: integers, scales, zero points. */
  readonly data: string;
  readonly scales: string;
  readonly zeroPoints: string | null;
}

/** Elements of an integer tensor of shape `dims`; one scale for all (`axis` null), per index of an axis, or per block of it. */
export interface PackedTensor extends PackedBase {
  readonly layout: "tensor";
  readonly axis: number | null;
  /** Elements along `axis` that share a scale; 0: an index of the axis has one of its own. */
  readonly blockSize: number;
}

/**
 * Bytes row after row, lowest bits first, each row in blocks along its end: MatMulNBits and GatherBlockQuantized. Integer
 * zero points are packed the same way, each row from a byte of its own; without any they are half the range.
 */
export interface PackedRows extends PackedBase {
  readonly layout: "rows";
  readonly blockSize: number;
  /** Bytes of a row; MatMulNBits fills up its last block. */
  readonly rowBytes: number;
}

/** 4-bit codes of a table, the first of two in the higher bits; blocks run over rows: MatMulBnb4. */
export interface PackedCodes extends PackedBase {
  readonly layout: "codes";
  readonly blockSize: number;
  readonly codeBook: CodeBook;
}

/** A weight that is not one floating-point initialiser but made from integers and scales. Plain data. */
export type PackedWeight = PackedTensor | PackedRows | PackedCodes;

/** Names of all initialisers that a packed weight consists of. */
export const initializersOf = (packed: PackedWeight): string[] =>
  [packed.data, packed.scales, packed.zeroPoints].filter((name) => name !== null);

/** An initialiser of a packed weight. @throws PeftError UNKNOWN_VALUE */
export function partOf(graph: Pick<Graph, "initializers">, name: string): TensorData {
  const tensor = graph.initializers.get(name);
  if (!tensor) throw new PeftError("UNKNOWN_VALUE", `The graph has no initialiser named "${name}".`);
  return tensor;
}

/** A packed weight in rows whose bytes, scales and zero points are as many as its shape asks for; else null. */
function checkedRows(graph: Pick<Graph, "initializers">, packed: PackedRows): PackedRows | null {
  const { bits, blockSize, rowBytes, zeroPoints } = packed;
  const [rows = 0, columns = 0] = packed.dims;
  if (![2, 4, 8].includes(bits) || blockSize < 1 || rows < 1 || columns < 1) return null;
  const blocks = Math.ceil(columns / blockSize);
  const [data, scales] = [partOf(graph, packed.data), partOf(graph, packed.scales)];
  const zero = zeroPoints === null ? null : partOf(graph, zeroPoints);
  const zeroCount = zero?.type === "uint8" ? rows * Math.ceil((blocks * bits) / 8) : rows * blocks;
  const fits =
    data.type === "uint8" &&
    elementCount(data.dims) === rows * rowBytes &&
    isFloating(scales.type) &&
    elementCount(scales.dims) === rows * blocks &&
    (zero === null || ((zero.type === "uint8" || isFloating(zero.type)) && elementCount(zero.dims) === zeroCount));
  return fits ? packed : null;
}

type Lookup = (i: number) => TensorData | null | undefined;

/** Initialisers of inputs by position: undefined where the input is absent, null where it is computed. */
const lookup =
  (graph: Pick<Graph, "initializers">, node: Node): Lookup =>
  (i) => {
    const name = node.inputs[i] ?? "";
    return name === "" ? undefined : (graph.initializers.get(name) ?? null);
  };

const isInteger = (type: ElementType): boolean => /^u?int\d+$/.test(type);
const nameAt = (node: Node, i: number): string | null => node.inputs[i] || null;

/**
 * Integers of a whole tensor with scales: per tensor, per index of `axis`, or per block.
 * Null unless data, scales and zero points are constants that fit each other.
 */
export function packedTensor(
  graph: Pick<Graph, "initializers">,
  form: string,
  names: { readonly data: string; readonly scales: string; readonly zeroPoints: string | null },
  axis: number,
  blockSize: number,
): PackedTensor | null {
  const [data, scales] = [graph.initializers.get(names.data), graph.initializers.get(names.scales)];
  const zero = names.zeroPoints === null ? undefined : (graph.initializers.get(names.zeroPoints) ?? null);
  if (!data || !scales || zero === null || !isInteger(data.type) || !isFloating(scales.type)) return null;
  if (zero && (!isInteger(zero.type) || elementCount(zero.dims) !== elementCount(scales.dims))) return null;
  const { dims, type } = data;
  const positive = axis < 0 ? axis + dims.length : axis;
  const { dims: of } = scales;
  const perTensor = of.length === 0 || (of.length === 1 && of[0] === 1 && dims[positive] !== 1);
  const common = { form, dims, type: scales.type, bits: elementTypes[type].bits, ...names } as const;
  if (perTensor && blockSize === 0) return { ...common, layout: "tensor", axis: null, blockSize: 0 };
  const expected =
    blockSize === 0 ? [dims[positive]] : dims.map((d, i) => (i === positive ? Math.ceil(d / blockSize) : d));
  const fits = of.length === expected.length && of.every((d, i) => d === expected[i]);
  return fits ? { ...common, layout: "tensor", axis: positive, blockSize } : null;
}

function dequantizeLinear(graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null {
  const [data = "", scales = ""] = node.inputs;
  const names = { data, scales, zeroPoints: nameAt(node, 2) };
  return packedTensor(graph, node.op, names, intAttribute(node, "axis", 1), intAttribute(node, "block_size", 0));
}

/**
 * MatMulNBits reads B [N, blocks, bytes of a block] as the weight [N, K]; scales [N * blocks]. Null with reordered columns
 * (g_idx): ONNX Runtime's CPU kernel gives columns 8 and up of a block the groups of the first eight, so what such a file
 * computes differs from what it stands for.
 */
function matMulNBits(graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null {
  const at = lookup(graph, node);
  const [data, scales, zero] = [at(1), at(2), at(3)];
  const size = (name: string): number => intAttribute(node, name, name === "bits" ? 4 : 0);
  const [rows, columns, bits, blockSize] = [size("N"), size("K"), size("bits"), size("block_size")];
  if (!data || !scales || zero === null || at(4) !== undefined) return null;
  return checkedRows(graph, {
    ...{ layout: "rows", form: node.op, dims: [rows, columns], type: scales.type, bits, blockSize },
    rowBytes: (Math.ceil(columns / blockSize) * blockSize * bits) / 8,
    data: nameAt(node, 1) ?? "",
    scales: nameAt(node, 2) ?? "",
    zeroPoints: nameAt(node, 3),
  });
}

/** MatMulBnb4 reads B [N * K / 2] as the weight [N, K], one absmax per block of the flat weight. */
function matMulBnb4(graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null {
  const at = lookup(graph, node);
  const [data, scales] = [at(1), at(2)];
  const size = (name: string): number => intAttribute(node, name, 0);
  if (!data || !scales || intAttribute(node, "transB", 1) !== 1 || size("block_size") < 1) return null;
  const count = size("N") * size("K");
  const fits =
    data.type === "uint8" &&
    elementCount(data.dims) === Math.ceil(count / 2) &&
    isFloating(scales.type) &&
    elementCount(scales.dims) === Math.ceil(count / size("block_size"));
  if (count < 1 || !fits) return null;
  return {
    ...{ layout: "codes", form: node.op, dims: [size("N"), size("K")], type: scales.type, bits: 4 },
    blockSize: size("block_size"),
    codeBook: intAttribute(node, "quant_type", 1) === 1 ? "nf4" : "fp4",
    data: nameAt(node, 1) ?? "",
    scales: nameAt(node, 2) ?? "",
    zeroPoints: null,
  };
}

/** GatherBlockQuantized: rows as in MatMulNBits in bytes, or a tensor of 4-bit integers. Embeddings (gather_axis 0) only. */
function gatherBlockQuantized(graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null {
  const at = lookup(graph, node);
  const [data, scales, zero] = [at(0), at(2), at(3)];
  if (!data || !scales || zero === null || data.dims.length !== 2 || intAttribute(node, "gather_axis", 0) !== 0) {
    return null;
  }
  const [axis, blockSize] = [intAttribute(node, "quantize_axis", 1), intAttribute(node, "block_size", 128)];
  const names = { data: nameAt(node, 0) ?? "", scales: nameAt(node, 2) ?? "", zeroPoints: nameAt(node, 3) };
  if (data.type !== "uint8") return packedTensor(graph, node.op, names, axis, blockSize);
  const bits = intAttribute(node, "bits", 4);
  const [rows = 0, rowBytes = 0] = data.dims;
  const dims = [rows, (rowBytes * 8) / bits];
  const { type } = scales;
  return checkedRows(graph, { ...names, layout: "rows", form: node.op, dims, type, bits, blockSize, rowBytes });
}

/** Right factor of ONNX Runtime's float-in, float-out integer products: B [K, N], per tensor or per column. */
const integerFactor =
  (data: number, scales: number, zeroPoints: number) =>
  (graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null => {
    const names = { data: nameAt(node, data) ?? "", scales: nameAt(node, scales) ?? "" };
    return packedTensor(graph, node.op, { ...names, zeroPoints: nameAt(node, zeroPoints) }, 1, 0);
  };

type Reader = (graph: Pick<Graph, "initializers">, node: Node) => PackedWeight | null;

const readers: ReadonlyMap<string, Reader> = new Map([
  ["DequantizeLinear", dequantizeLinear],
  ["com.microsoft::DequantizeLinear", dequantizeLinear],
  ["com.microsoft::MatMulNBits", matMulNBits],
  ["com.microsoft::MatMulBnb4", matMulBnb4],
  ["com.microsoft::GatherBlockQuantized", gatherBlockQuantized],
  ["com.microsoft::DynamicQuantizeMatMul", integerFactor(1, 2, 3)],
  ["com.microsoft::MatMulIntegerToFloat", integerFactor(1, 3, 5)],
]);

/**
 * The packed weight that a node reads from constants, or null: DequantizeLinear, MatMulNBits, MatMulBnb4,
 * GatherBlockQuantized, DynamicQuantizeMatMul, MatMulIntegerToFloat. Sizes are checked against each other; contents are not read.
 */
export function packedWeightOf(graph: Pick<Graph, "initializers">, node: Node): PackedWeight | null {
  const read = readers.get(node.domain === "" ? node.op : `${node.domain}::${node.op}`);
  return read?.(graph, node) ?? null;
}
