import type { ElementType } from "../../onnx/element-type.ts";

/**
 * Element types by their names in a safetensors file, in the order in which the reference implementation lays tensors
 * out: width descending, so that every tensor stays aligned without padding; inside a width the order of its list.
 * Observed with version 0.8.0 of the reference implementation. Its packed 4- and 6-bit types and F8_E8M0 have no ONNX
 * counterpart in use and are refused.
 */
const dtypes = {
  U64: "uint64",
  I64: "int64",
  F64: "float64",
  C64: "complex64",
  F32: "float32",
  U32: "uint32",
  I32: "int32",
  BF16: "bfloat16",
  F16: "float16",
  U16: "uint16",
  I16: "int16",
  F8_E5M2FNUZ: "float8e5m2fnuz",
  F8_E4M3FNUZ: "float8e4m3fnuz",
  F8_E4M3: "float8e4m3fn",
  F8_E5M2: "float8e5m2",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
} as const satisfies Record<string, ElementType>;

export type SafetensorsDtype = keyof typeof dtypes;

const entries = Object.entries(dtypes) as [SafetensorsDtype, ElementType][];
const byName = new Map<string, ElementType>(entries);
const byType = new Map(entries.map(([dtype, type], rank) => [type, { dtype, rank }]));

/** Our element type of a dtype name, or undefined for an unknown one. */
export const elementTypeOfDtype = (dtype: string): ElementType | undefined => byName.get(dtype);

/** The dtype name of an element type and its place in the layout, or undefined when the format has none. */
export const dtypeOf = (type: ElementType): { dtype: SafetensorsDtype; rank: number } | undefined => byType.get(type);

export const dtypeNames: readonly string[] = Object.keys(dtypes);
