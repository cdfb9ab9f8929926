import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { PeftError } from "../errors.ts";
import { byteLength, type ElementType } from "./element-type.ts";
import { decodeFloats, decodeNumbers, elementCount, encodeElements, type NumericArray } from "./elements.ts";
import { openForReading } from "./file-source.ts";
import type { FileRange, TensorData } from "./ir.ts";

export { elementCount } from "./elements.ts";

/** One read call moves at most this much: the system's own limit is 2^31 - 4096. */
const largestRead = 2 ** 30;

/**
 * Bytes of a file range, read synchronously.
 * @throws PeftError FILE_RANGE when the file cannot be read or is shorter than the range.
 */
export function readFileRange({ path, offset, length }: FileRange): Uint8Array<ArrayBuffer> {
  let file: number | undefined;
  try {
    file = openSync(path, openForReading);
    const stats = fstatSync(file);
    if (!stats.isFile()) throw new PeftError("FILE_RANGE", `expected a file, received something else at ${path}.`);
    const { size } = stats;
    if (offset + length > size) {
      throw new PeftError("FILE_RANGE", `expected bytes ${offset} to ${offset + length} in ${path}, it has ${size}.`, {
        hint: "Was the file replaced after the model was read?",
      });
    }
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const read = readSync(file, bytes, done, Math.min(length - done, largestRead), offset + done);
      if (read === 0) throw new PeftError("FILE_RANGE", `${path} ended at byte ${offset + done} while it was read.`);
      done += read;
    }
    return bytes;
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError("FILE_RANGE", `could not read ${length} bytes at ${offset} of ${path}: ${String(cause)}.`, {
      cause,
    });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/**
 * Little-endian bytes of a tensor: the view itself, or read from its file.
 * @throws PeftError FILE_RANGE
 */
export function readTensorBytes(tensor: TensorData): Uint8Array {
  return tensor.data instanceof Uint8Array ? tensor.data : readFileRange(tensor.data);
}

/**
 * A tensor from numbers. An array that has the layout of `type` already is viewed and not copied; a `Uint16Array` for
 * float16 or bfloat16 holds bit patterns, any other array holds values that are rounded.
 *
 * @throws PeftError SHAPE_MISMATCH, VALUE_OUT_OF_RANGE, ONNX_UNSUPPORTED, ONNX_LIMIT
 * @example
 * tensorFrom("int64", [2], [1, -1]).data.length; // 16
 */
export function tensorFrom(
  type: ElementType,
  dims: readonly number[],
  values: NumericArray,
): TensorData & { readonly data: Uint8Array } {
  const count = elementCount(dims);
  if (count !== values.length) {
    throw new PeftError("SHAPE_MISMATCH", `expected ${count} values for shape [${dims}], received ${values.length}.`);
  }
  return { type, dims: [...dims], data: encodeElements(type, values) };
}

/** A tensor of texts. @throws PeftError SHAPE_MISMATCH */
export function stringTensor(dims: readonly number[], strings: readonly string[]): TensorData {
  const count = elementCount(dims);
  if (count !== strings.length) {
    throw new PeftError("SHAPE_MISMATCH", `expected ${count} strings for shape [${dims}], received ${strings.length}.`);
  }
  return { type: "string", dims: [...dims], data: new Uint8Array(0), strings: [...strings] };
}

function checkedBytes(tensor: TensorData): Uint8Array {
  const expected = byteLength(tensor.type, elementCount(tensor.dims));
  const bytes = readTensorBytes(tensor);
  if (bytes.length !== expected) {
    throw new PeftError(
      "SHAPE_MISMATCH",
      `expected ${expected} bytes for ${tensor.type} [${tensor.dims}], received ${bytes.length}.`,
    );
  }
  return bytes;
}

/**
 * float32, float16, bfloat16 or float64 elements as float32. The result is the caller's own: writing to it does not
 * change the tensor. Time and memory linear in the tensor.
 *
 * @throws PeftError ONNX_UNSUPPORTED for other types; SHAPE_MISMATCH, FILE_RANGE
 */
export function toFloat32Array(tensor: TensorData): Float32Array<ArrayBuffer> {
  return decodeFloats(tensor.type, checkedBytes(tensor), tensor.data instanceof Uint8Array);
}

/**
 * Elements of a numeric tensor (integers, booleans as 0 and 1, floating types) as numbers.
 *
 * @throws PeftError VALUE_OUT_OF_RANGE when an int64 or uint64 is not a safe integer; ONNX_UNSUPPORTED, SHAPE_MISMATCH, FILE_RANGE
 * @example
 * toNumbers(tensorFrom("int64", [2], [1n, -1n])); // [1, -1]
 */
export function toNumbers(tensor: TensorData): number[] {
  return decodeNumbers(tensor.type, checkedBytes(tensor), elementCount(tensor.dims));
}
