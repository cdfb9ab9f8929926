import { PeftError } from "../errors.ts";
import { type CodeBook, codeBooks } from "./code-books.ts";

/** Weights [rows, columns] in bytes, one scale per block. */
export interface QuantizedBlocks {
  readonly data: Uint8Array;
  readonly scales: Float32Array;
  /** Packed like the weights, each row from a byte of its own; null: half the range. */
  readonly zeroPoints: Uint8Array | null;
}

function checkMatrix(values: Float32Array, rows: number, columns: number, blockSize: number): void {
  if (values.length === rows * columns && blockSize >= 1 && Number.isInteger(blockSize)) return;
  throw new PeftError(
    "SHAPE_MISMATCH",
    `Expected ${rows * columns} weights for [${rows}, ${columns}] and a block size of at least 1, received ${values.length} and ${blockSize}.`,
  );
}

/** Scale and zero point of one block; -max / 2^(bits-1) of the largest magnitude where the zero point is half the range. */
function rangeOf(
  values: Float32Array,
  from: number,
  to: number,
  bits: number,
  hasZeroPoint: boolean,
): [number, number] {
  let [low, high, peak] = [0, 0, 0];
  for (let i = from; i < to; i++) {
    const value = values[i] as number;
    if (value < low) low = value;
    if (value > high) high = value;
    if (Math.abs(value) > Math.abs(peak)) peak = value;
  }
  if (!hasZeroPoint) return [Math.fround(peak / -(2 ** (bits - 1))), 2 ** (bits - 1)];
  const scale = Math.fround((high - low) / (2 ** bits - 1));
  return [scale, scale === 0 ? 0 : Math.round(-low / scale)];
}

/**
 * Rounds each row to `bits` bits in blocks, in the layout of MatMulNBits: data [rows, blocks, blockSize * bits / 8], lowest
 * bits first, the last block filled up; scales [rows * blocks].
 * @param hasZeroPoint ranges from the smallest to the largest weight of a block, and not around 0.
 * @throws PeftError SHAPE_MISMATCH
 */
export function quantizeRows(
  values: Float32Array,
  rows: number,
  columns: number,
  options: { readonly bits: 2 | 4 | 8; readonly blockSize: number; readonly hasZeroPoint?: boolean },
): QuantizedBlocks {
  const { bits, blockSize, hasZeroPoint = false } = options;
  checkMatrix(values, rows, columns, blockSize);
  const blocks = Math.ceil(columns / blockSize);
  const [each, most] = [8 / bits, 2 ** bits - 1];
  const data = new Uint8Array((rows * blocks * blockSize) / each);
  const scales = new Float32Array(rows * blocks);
  const zeroBytes = Math.ceil(blocks / each);
  const zeroPoints = hasZeroPoint ? new Uint8Array(rows * zeroBytes) : null;
  const put = (bytes: Uint8Array, at: number, code: number): void => {
    const byte = Math.floor(at / each);
    bytes[byte] = (bytes[byte] as number) | (code << ((at % each) * bits));
  };
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * blockSize;
      const to = Math.min(from + blockSize, (row + 1) * columns);
      const [scale, zero] = rangeOf(values, from, to, bits, hasZeroPoint);
      scales[row * blocks + block] = scale;
      if (zeroPoints) put(zeroPoints, row * zeroBytes * each + block, zero);
      for (let i = from; i < to; i++) {
        const code = scale === 0 ? zero : Math.round((values[i] as number) / scale) + zero;
        put(data, (row * blocks + block) * blockSize + i - from, Math.min(most, Math.max(0, code)));
      }
    }
  }
  return { data, scales, zeroPoints };
}

/** Index of the entry of a code book that is nearest to a number. */
function nearestCode(book: Float32Array, value: number): number {
  let best = 0;
  for (let code = 1; code < 16; code++) {
    if (Math.abs((book[code] as number) - value) < Math.abs((book[best] as number) - value)) best = code;
  }
  return best;
}

/**
 * Rounds weights to the nearest entries of a code book, in the layout of MatMulBnb4: two codes a byte, the first in the
 * higher bits, one scale (the largest magnitude) per block of the flat weight.
 * @throws PeftError SHAPE_MISMATCH
 */
export function quantizeCodes(
  values: Float32Array,
  rows: number,
  columns: number,
  options: { readonly codeBook: CodeBook; readonly blockSize: number },
): QuantizedBlocks {
  const { codeBook, blockSize } = options;
  checkMatrix(values, rows, columns, blockSize);
  const book = codeBooks[codeBook];
  const data = new Uint8Array(Math.ceil(values.length / 2));
  const scales = new Float32Array(Math.ceil(values.length / blockSize));
  for (let block = 0; block < scales.length; block++) {
    const [from, to] = [block * blockSize, Math.min((block + 1) * blockSize, values.length)];
    let peak = 0;
    for (let i = from; i < to; i++) peak = Math.max(peak, Math.abs(values[i] as number));
    scales[block] = peak;
    for (let i = from; i < to; i++) {
      const code = nearestCode(book, peak === 0 ? 0 : (values[i] as number) / peak);
      data[i >> 1] = (data[i >> 1] as number) | ((i & 1) === 0 ? code << 4 : code);
    }
  }
  return { data, scales, zeroPoints: null };
}

/**
 * Rounds each row to int8 with a scale of its own, without zero points: data [rows, columns], for DequantizeLinear along
 * axis 0. The smallest code is -127, so that 0 is in the middle.
 * @throws PeftError SHAPE_MISMATCH
 */
export function quantizePerRow(
  values: Float32Array,
  rows: number,
  columns: number,
): { readonly data: Int8Array; readonly scales: Float32Array } {
  checkMatrix(values, rows, columns, 1);
  const data = new Int8Array(values.length);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    let peak = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) peak = Math.max(peak, Math.abs(values[i] as number));
    const scale = Math.fround(peak / 127);
    scales[row] = scale;
    if (scale === 0) continue;
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      data[i] = Math.max(-127, Math.min(127, Math.round((values[i] as number) / scale)));
    }
  }
  return { data, scales };
}
