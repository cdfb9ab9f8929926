import { PeftError } from "../errors.ts";
import { byteLength, type ElementType } from "./element-type.ts";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts";

/** Values a tensor can be made of. */
export type NumericArray =
  | readonly number[]
  | readonly bigint[]
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

type TypedArray = Exclude<NumericArray, readonly unknown[]>;

interface Storage {
  readonly array: { new (buffer: ArrayBuffer, offset: number, length: number): TypedArray };
  readonly min?: number | bigint;
  readonly max?: number | bigint;
}

const integer = (array: Storage["array"], min: number, max: number): Storage => ({ array, min, max });

/** Element types that have a JavaScript array of the same layout. */
const storages: Partial<Record<ElementType, Storage>> = {
  float32: { array: Float32Array },
  float64: { array: Float64Array },
  uint8: integer(Uint8Array, 0, 0xff),
  int8: integer(Int8Array, -0x80, 0x7f),
  uint16: integer(Uint16Array, 0, 0xffff),
  int16: integer(Int16Array, -0x8000, 0x7fff),
  uint32: integer(Uint32Array, 0, 0xffffffff),
  int32: integer(Int32Array, -0x80000000, 0x7fffffff),
  bool: integer(Uint8Array, 0, 1),
  int64: { array: BigInt64Array, min: -(2n ** 63n), max: 2n ** 63n - 1n },
  uint64: { array: BigUint64Array, min: 0n, max: 2n ** 64n - 1n },
};

/**
 * Number of elements of a shape of known sizes; a scalar (`[]`) has 1.
 * @throws PeftError ONNX_LIMIT when a dimension is negative, fractional, or the product is not a safe integer.
 */
export function elementCount(dims: readonly number[], where = "tensor"): number {
  let count = 1;
  let empty = false;
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new PeftError(
        "ONNX_LIMIT",
        `expected dimensions that are whole numbers >= 0, received [${dims}] at ${where}.`,
      );
    }
    if (dim === 0) empty = true;
    else count *= dim;
    if (!Number.isSafeInteger(count)) {
      throw new PeftError("ONNX_LIMIT", `dimensions [${dims}] at ${where} multiply to more than 2^53 elements.`);
    }
  }
  return empty ? 0 : count;
}

const outOfRange = (value: unknown, index: number, type: ElementType): PeftError =>
  new PeftError("VALUE_OUT_OF_RANGE", `expected values of type ${type}, received ${String(value)} at index ${index}.`);

const bytesOf = (array: TypedArray): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

function toFloat32(values: NumericArray): Float32Array {
  return values instanceof Float32Array ? values : Float32Array.from(values as ArrayLike<number>, Number);
}

function packNibbles(type: "int4" | "uint4", values: NumericArray): Uint8Array {
  const [min, max] = type === "int4" ? [-8, 7] : [0, 15];
  const out = new Uint8Array(byteLength(type, values.length));
  for (let i = 0; i < values.length; i++) {
    const value = Number(values[i]);
    if (!Number.isInteger(value) || value < min || value > max) throw outOfRange(values[i], i, type);
    out[i >> 1] = (out[i >> 1] as number) | ((value & 15) << ((i & 1) * 4));
  }
  return out;
}

/**
 * Little-endian bytes of numbers as an element type. An array that already has the layout of `type` is viewed, not
 * copied; a `Uint16Array` for float16 or bfloat16 holds bit patterns.
 * @throws PeftError VALUE_OUT_OF_RANGE, ONNX_UNSUPPORTED
 */
export function encodeElements(type: ElementType, values: NumericArray): Uint8Array {
  if (type === "float16" || type === "bfloat16") {
    if (values instanceof Uint16Array) return bytesOf(values);
    return bytesOf(type === "float16" ? float32ToFloat16(toFloat32(values)) : float32ToBfloat16(toFloat32(values)));
  }
  if (type === "int4" || type === "uint4") return packNibbles(type, values);
  const storage = storages[type];
  if (!storage) throw new PeftError("ONNX_UNSUPPORTED", `tensors of type ${type} cannot be made from numbers.`);
  if (values instanceof storage.array && type !== "bool") return bytesOf(values);
  const { min, max } = storage;
  const length = values.length;
  const out = new storage.array(new ArrayBuffer(byteLength(type, length)), 0, length);
  if (out instanceof BigInt64Array || out instanceof BigUint64Array) {
    for (let i = 0; i < length; i++) {
      const value = values[i] as number | bigint;
      if (typeof value === "number" && !Number.isSafeInteger(value)) throw outOfRange(value, i, type);
      const big = BigInt(value);
      if (big < (min as bigint) || big > (max as bigint)) throw outOfRange(value, i, type);
      out[i] = big;
    }
    return bytesOf(out);
  }
  for (let i = 0; i < length; i++) {
    const value = Number(values[i]);
    if (min !== undefined && max !== undefined && (!Number.isInteger(value) || value < min || value > max)) {
      throw outOfRange(values[i], i, type);
    }
    out[i] = value;
  }
  return bytesOf(out);
}

/** The bytes at an address that suits `width`-byte elements; copied when they do not lie so or when `own` asks for it. */
function aligned(bytes: Uint8Array, width: number, own: boolean): Uint8Array<ArrayBuffer> {
  const usable = !own && bytes.byteOffset % width === 0 && bytes.buffer instanceof ArrayBuffer;
  return usable ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}

/**
 * Floating elements as float32, in memory of their own.
 * @throws PeftError ONNX_UNSUPPORTED for integer, boolean and text types.
 */
export function decodeFloats(type: ElementType, bytes: Uint8Array, own = true): Float32Array<ArrayBuffer> {
  if (type === "float32") {
    const { buffer, byteOffset, byteLength: length } = aligned(bytes, 4, own);
    return new Float32Array(buffer, byteOffset, length / 4);
  }
  if (type === "float16" || type === "bfloat16") {
    const { buffer, byteOffset, byteLength: length } = aligned(bytes, 2, false);
    const halves = new Uint16Array(buffer, byteOffset, length / 2);
    return type === "float16" ? float16ToFloat32(halves) : bfloat16ToFloat32(halves);
  }
  if (type === "float64") {
    const { buffer, byteOffset, byteLength: length } = aligned(bytes, 8, false);
    return Float32Array.from(new Float64Array(buffer, byteOffset, length / 8));
  }
  throw new PeftError("ONNX_UNSUPPORTED", `expected a floating-point tensor, received type ${type}.`);
}

/**
 * The first `count` elements as JavaScript numbers; int64 and uint64 must be safe integers.
 * @throws PeftError VALUE_OUT_OF_RANGE, ONNX_UNSUPPORTED
 */
export function decodeNumbers(type: ElementType, bytes: Uint8Array, count: number): number[] {
  if (type === "float16" || type === "bfloat16") return Array.from(decodeFloats(type, bytes));
  if (type === "int4" || type === "uint4") {
    return Array.from({ length: count }, (_, i) => {
      const nibble = ((bytes[i >> 1] ?? 0) >> ((i & 1) * 4)) & 15;
      return type === "int4" && nibble > 7 ? nibble - 16 : nibble;
    });
  }
  const storage = storages[type];
  if (!storage) throw new PeftError("ONNX_UNSUPPORTED", `tensors of type ${type} have no values as numbers.`);
  const width = byteLength(type, 1);
  const { buffer, byteOffset } = aligned(bytes, width, false);
  return Array.from(new storage.array(buffer, byteOffset, count) as ArrayLike<number | bigint>, (value, i) => {
    const number = Number(value);
    if (typeof value === "bigint" && !Number.isSafeInteger(number)) throw outOfRange(value, i, `${type}`);
    return number;
  });
}
