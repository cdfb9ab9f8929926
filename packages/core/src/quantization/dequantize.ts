import type { Graph } from "../onnx/ir.ts";
import { elementCount, readTensorBytes, toFloat32Array } from "../onnx/tensor.ts";
import { codeBooks } from "./code-books.ts";
import type { PackedCodes, PackedRows, PackedTensor, PackedWeight } from "./packed-weight.ts";
import { partOf } from "./packed-weight.ts";
import { integersOf, unpackBits } from "./unpack-bits.ts";

type Initializers = Pick<Graph, "initializers">;

/** W[o, a, i] = (q[o, a, i] - zero) * scale, with the tensor seen as [outer, axis, inner]. */
function dequantizeTensor(graph: Initializers, packed: PackedTensor): Float32Array {
  const codes = integersOf(partOf(graph, packed.data));
  const scales = toFloat32Array(partOf(graph, packed.scales));
  const zeros = packed.zeroPoints === null ? null : integersOf(partOf(graph, packed.zeroPoints));
  const { dims, axis, blockSize } = packed;
  const out = new Float32Array(codes.length);
  const count = axis === null ? 1 : (dims[axis] ?? 1);
  const inner = axis === null ? 1 : elementCount(dims.slice(axis + 1));
  const blocks = blockSize === 0 ? count : Math.ceil(count / blockSize);
  for (let i = 0; i < out.length; i++) {
    let at = 0;
    if (axis !== null) {
      const row = Math.floor(i / inner);
      const index = row % count;
      at =
        blockSize === 0
          ? index
          : (Math.floor(row / count) * blocks + Math.floor(index / blockSize)) * inner + (i % inner);
    }
    out[i] = ((codes[i] as number) - (zeros?.[at] ?? 0)) * (scales[at] as number);
  }
  return out;
}

/** Zero points of packed rows, one per scale: stored as floats, packed like the weights, or half the range. */
function zerosOfRows(graph: Initializers, packed: PackedRows, blocks: number): Float32Array {
  const { bits, dims, zeroPoints } = packed;
  const [rows = 0] = dims;
  const zeros = new Float32Array(rows * blocks).fill(2 ** (bits - 1));
  if (zeroPoints === null) return zeros;
  const tensor = partOf(graph, zeroPoints);
  if (tensor.type !== "uint8") return toFloat32Array(tensor);
  const codes = unpackBits(readTensorBytes(tensor), bits);
  const stride = (Math.ceil((blocks * bits) / 8) * 8) / bits;
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) zeros[row * blocks + block] = codes[row * stride + block] as number;
  }
  return zeros;
}

/** W[n, k] = (q[n, k] - zero) * scale of block k / blockSize. */
function dequantizeRows(graph: Initializers, packed: PackedRows): Float32Array {
  const { bits, blockSize, dims, rowBytes } = packed;
  const [rows = 0, columns = 0] = dims;
  const blocks = Math.ceil(columns / blockSize);
  const codes = unpackBits(readTensorBytes(partOf(graph, packed.data)), bits);
  const scales = toFloat32Array(partOf(graph, packed.scales));
  const zeros = zerosOfRows(graph, packed, blocks);
  const stride = (rowBytes * 8) / bits;
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < columns; k++) {
      const at = row * blocks + Math.floor(k / blockSize);
      out[row * columns + k] = ((codes[row * stride + k] as number) - (zeros[at] as number)) * (scales[at] as number);
    }
  }
  return out;
}

/** W[i] = book[code i] * absmax of block i / blockSize, over the flat weight. */
function dequantizeCodes(graph: Initializers, packed: PackedCodes): Float32Array {
  const bytes = readTensorBytes(partOf(graph, packed.data));
  const scales = toFloat32Array(partOf(graph, packed.scales));
  const book = codeBooks[packed.codeBook];
  const out = new Float32Array(elementCount(packed.dims));
  for (let i = 0; i < out.length; i++) {
    const byte = bytes[i >> 1] as number;
    const code = (i & 1) === 0 ? byte >> 4 : byte & 15;
    out[i] = (book[code] as number) * (scales[Math.floor(i / packed.blockSize)] as number);
  }
  return out;
}

/**
 * The values of a packed weight in float32, row-major in `packed.dims`: what ONNX Runtime computes from the same bytes
 * (a float16 file rounds them to float16 there). Time and memory linear in the weight.
 *
 * @throws PeftError UNKNOWN_VALUE, QUANTIZED_TYPE, QUANTIZED_BITS, FILE_RANGE
 * @example
 * const packed = packedWeightOf(graph, node); // of a MatMulNBits with N = 64, K = 128
 * if (packed) dequantized(graph, packed).length; // 8192
 */
export function dequantized(graph: Initializers, packed: PackedWeight): Float32Array {
  switch (packed.layout) {
    case "tensor":
      return dequantizeTensor(graph, packed);
    case "rows":
      return dequantizeRows(graph, packed);
    case "codes":
      return dequantizeCodes(graph, packed);
  }
}
