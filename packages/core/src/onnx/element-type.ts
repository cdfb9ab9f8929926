import { PeftError } from "../errors.ts";

/** ONNX element types: the number in a file and the bits of one element (0: not of fixed size). */
export const elementTypes = {
  float32: { code: 1, bits: 32 },
  uint8: { code: 2, bits: 8 },
  int8: { code: 3, bits: 8 },
  uint16: { code: 4, bits: 16 },
  int16: { code: 5, bits: 16 },
  int32: { code: 6, bits: 32 },
  int64: { code: 7, bits: 64 },
  string: { code: 8, bits: 0 },
  bool: { code: 9, bits: 8 },
  float16: { code: 10, bits: 16 },
  float64: { code: 11, bits: 64 },
  uint32: { code: 12, bits: 32 },
  uint64: { code: 13, bits: 64 },
  complex64: { code: 14, bits: 64 },
  complex128: { code: 15, bits: 128 },
  bfloat16: { code: 16, bits: 16 },
  float8e4m3fn: { code: 17, bits: 8 },
  float8e4m3fnuz: { code: 18, bits: 8 },
  float8e5m2: { code: 19, bits: 8 },
  float8e5m2fnuz: { code: 20, bits: 8 },
  uint4: { code: 21, bits: 4 },
  int4: { code: 22, bits: 4 },
  float4e2m1: { code: 23, bits: 4 },
} as const satisfies Record<string, { code: number; bits: number }>;

export type ElementType = keyof typeof elementTypes;

const byCode = new Map<number, ElementType>(
  Object.entries(elementTypes).map(([name, { code }]) => [code, name as ElementType]),
);

/**
 * Element type of an ONNX type number.
 * @throws PeftError UNKNOWN_ELEMENT_TYPE
 */
export function elementTypeOf(code: number, where: string): ElementType {
  const type = byCode.get(code);
  if (!type)
    throw new PeftError("UNKNOWN_ELEMENT_TYPE", `Element type ${code} at ${where} is not one of ONNX's types.`);
  return type;
}

/** Bytes that `count` elements take in a file; 4-bit types are packed, two to a byte. */
export const byteLength = (type: ElementType, count: number): number =>
  Math.ceil((count * elementTypes[type].bits) / 8);

/** True for types with a gradient: everything else is integer, boolean or text. */
export const isFloating = (type: ElementType): boolean =>
  type === "float32" || type === "float16" || type === "float64" || type === "bfloat16";
