import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { codeBooks } from "./code-books.ts";
import type { PackedCodes, PackedRows, PackedTensor, PackedWeight } from "./packed-weight.ts";
import { tiedConstant } from "./tied-constant.ts";

/** One row per byte: the values of the codes in it. Element types below 8 bits need opset 21, a Gather works in all. */
function byteTable(g: Builder, each: number, decode: (byte: number, position: number) => number): Value {
  const values = Array.from({ length: 256 * each }, (_, i) => decode(Math.floor(i / each), i % each));
  return g.constant("float32", values, [256, each]);
}

/** Codes in bytes, lowest bits first, less a zero point, as floats: [..., bytes] to [..., bytes, 8 / bits], or [..., bytes] for 8 bits. */
function codesOf(g: Builder, bytes: Value, bits: number, zero: number): Value {
  if (bits === 8) return zero === 0 ? g.cast(bytes, "float32") : g.sub(g.cast(bytes, "float32"), zero);
  const table = byteTable(g, 8 / bits, (byte, i) => ((byte >> (i * bits)) & (2 ** bits - 1)) - zero);
  return g.gather(table, g.cast(bytes, "int32"));
}

function rowsInGraph(g: Builder, packed: PackedRows, dependency: Value): Value {
  const { bits, blockSize, rowBytes } = packed;
  if (![2, 4, 8].includes(bits)) {
    throw new PeftError("QUANTIZED_BITS", `Expected weights of 2, 4 or 8 bits, received ${bits} in "${packed.data}".`);
  }
  const [rows = 0, columns = 0] = packed.dims;
  const blocks = Math.ceil(columns / blockSize);
  const width = (rowBytes * 8) / bits;
  const isWhole = width === blocks * blockSize;
  const tied = (name: string, bytes: number, zero: number): Value =>
    codesOf(g, tiedConstant(g, g.value(name), dependency, [rows, bytes]), bits, zero);
  /** A number per block, in a shape that broadcasts over the weights. */
  const spread = (value: Value): Value => {
    if (isWhole) return g.reshape(value, [rows, blocks, 1]);
    const own = Array.from({ length: columns }, (_, k) => Math.floor(k / blockSize));
    return g.gather(g.reshape(value, [rows, blocks]), g.ints(own), 1);
  };
  const zeros = (name: string): Value => {
    if (g.value(name).type !== "uint8") return g.cast(g.value(name), "float32");
    const bytes = Math.ceil((blocks * bits) / 8);
    return g.slice(g.reshape(tied(name, bytes, 0), [rows, (bytes * 8) / bits]), [0], [blocks], [1]);
  };
  const { zeroPoints } = packed;
  const fixedZero = zeroPoints === null ? 2 ** (bits - 1) : 0;
  const codes = g.reshape(tied(packed.data, rowBytes, fixedZero), isWhole ? [rows, blocks, blockSize] : [rows, width]);
  const shaped = isWhole ? codes : g.slice(codes, [0], [columns], [1]);
  const centred = zeroPoints === null ? shaped : g.sub(shaped, spread(zeros(zeroPoints)));
  const weight = g.mul(centred, spread(g.cast(g.value(packed.scales), "float32")));
  if (!isWhole) return weight;
  const matrix = g.reshape(weight, [rows, width]);
  return width === columns ? matrix : g.slice(matrix, [0], [columns], [1]);
}

function codesInGraph(g: Builder, packed: PackedCodes, dependency: Value): Value {
  const [rows = 0, columns = 0] = packed.dims;
  const [count, { blockSize }] = [rows * columns, packed];
  const bytes = Math.ceil(count / 2);
  const blocks = Math.ceil(count / blockSize);
  const book = codeBooks[packed.codeBook];
  const table = byteTable(g, 2, (byte, i) => book[i === 0 ? byte >> 4 : byte & 15] ?? 0);
  const codes = g.gather(table, g.cast(tiedConstant(g, g.value(packed.data), dependency, [bytes]), "int32"));
  const scales = g.reshape(g.cast(g.value(packed.scales), "float32"), [blocks, 1]);
  if (count === blocks * blockSize) {
    return g.reshape(g.mul(g.reshape(codes, [blocks, blockSize]), scales), [rows, columns]);
  }
  const flat = (value: Value, length: number): Value => g.slice(g.reshape(value, [length]), [0], [count], [0]);
  const spread = flat(g.expand(scales, [blocks, blockSize]), blocks * blockSize);
  return g.reshape(g.mul(flat(codes, 2 * bytes), spread), [rows, columns]);
}

/** DequantizeLinear, which ONNX Runtime leaves alone when it folds constants; the scales hang on the dependency. */
function tensorInGraph(g: Builder, packed: PackedTensor, dependency: Value): Value {
  const { axis, blockSize, data, scales, zeroPoints } = packed;
  const tied = g.after(g.value(scales), dependency);
  const inputs = [g.value(data), tied, zeroPoints === null ? null : g.value(zeroPoints)];
  const attributes = { ...(axis === null ? {} : { axis }), ...(blockSize === 0 ? {} : { block_size: blockSize }) };
  return g.cast(g.op("DequantizeLinear", inputs, attributes)[0] as Value, "float32");
}

/**
 * Emits the operators that turn a packed weight into float32 of shape `packed.dims` during a run, once the floating-point
 * value `dependency` exists and not before. Rows and codes need plain operators of any opset: bytes to int32, Gather from a
 * table with the values of each byte, minus zero point, times scale; the numbers are those of `dequantized`. It takes 14
 * bytes a weight while it runs, and 4 until it was used.
 *
 * @throws PeftError QUANTIZED_BITS
 */
export function dequantizeInGraph(g: Builder, packed: PackedWeight, dependency: Value): Value {
  switch (packed.layout) {
    case "tensor":
      return tensorInGraph(g, packed, dependency);
    case "rows":
      return rowsInGraph(g, packed, dependency);
    case "codes":
      return codesInGraph(g, packed, dependency);
  }
}
