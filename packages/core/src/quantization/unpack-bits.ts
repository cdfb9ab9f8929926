import { PeftError } from "../errors.ts";
import type { TensorData } from "../onnx/ir.ts";
import { elementCount, readTensorBytes } from "../onnx/tensor.ts";

/** Unsigned integers of 2, 4 or 8 bits out of bytes, lowest bits first. */
export function unpackBits(bytes: Uint8Array, bits: number): Uint8Array {
  if (bits === 8) return bytes;
  if (bits !== 2 && bits !== 4) {
    throw new PeftError("QUANTIZED_BITS", `Expected weights of 2, 4 or 8 bits, received ${bits}.`);
  }
  const each = 8 / bits;
  const mask = 2 ** bits - 1;
  const out = new Uint8Array(bytes.length * each);
  for (let i = 0; i < out.length; i++) out[i] = ((bytes[(i / each) | 0] as number) >> ((i % each) * bits)) & mask;
  return out;
}

type Integers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array;

const arrays = { int16: Int16Array, uint16: Uint16Array, int32: Int32Array } as const;

/** Elements of an integer tensor of up to 32 bits. @throws PeftError QUANTIZED_TYPE */
export function integersOf(tensor: TensorData): Integers {
  const bytes = readTensorBytes(tensor);
  switch (tensor.type) {
    case "uint8":
      return bytes;
    case "int8":
      return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    case "uint4":
      return unpackBits(bytes, 4).subarray(0, elementCount(tensor.dims));
    case "int4": {
      const codes = unpackBits(bytes, 4).subarray(0, elementCount(tensor.dims));
      return Int8Array.from(codes, (code) => (code > 7 ? code - 16 : code));
    }
    case "int16":
    case "uint16":
    case "int32": {
      const copy = new Uint8Array(bytes);
      return new arrays[tensor.type](copy.buffer);
    }
    default:
      throw new PeftError("QUANTIZED_TYPE", `Expected integers of up to 32 bits, received ${tensor.type}.`);
  }
}
