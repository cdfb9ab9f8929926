import { type ElementType, elementTypes } from "../../onnx/element-type.ts";

/**
 * ONNX Runtime's adapter file (`.onnx_adapter`): a flatbuffer with the identifier "TORT". Two tables, fields by slot:
 *
 *   Adapter   0 format_version int32 · 1 adapter_version int32 · 2 model_version int32 · 3 parameters [Parameter]
 *   Parameter 0 name string · 1 dims [int64] · 2 data_type int32 · 3 raw_data [uint8], aligned to 8
 *
 * `data_type` counts as ONNX does. Source: the schema and the version header under onnxruntime/lora of microsoft/onnxruntime.
 */
export const fileIdentifier = "TORT";
/** The only version that there is. */
export const formatVersion = 1;
/** Offsets in a flatbuffer are signed 32-bit. */
export const maxFileBytes = 2 ** 31 - 1;
export const maxParameters = 100_000;
export const maxRank = 64;
export const maxNameBytes = 4096;

export const adapterSlots = { formatVersion: 0, adapterVersion: 1, modelVersion: 2, parameters: 3 } as const;
export const parameterSlots = { name: 0, dims: 1, dataType: 2, rawData: 3 } as const;

/** Types that ONNX Runtime 1.30 and 1.32 accept, tried one by one: numbers of fixed size, no booleans. */
const allowed = [
  "float32",
  "uint8",
  "int8",
  "uint16",
  "int16",
  "int32",
  "int64",
  "float16",
  "float64",
  "uint32",
  "uint64",
  "bfloat16",
  "float8e4m3fn",
  "float8e4m3fnuz",
  "float8e5m2",
  "float8e5m2fnuz",
] as const satisfies readonly ElementType[];

const byCode = new Map<number, ElementType>(allowed.map((type) => [elementTypes[type].code, type]));

/** The element type of a `data_type`, or undefined for one that is not allowed. */
export const typeOfCode = (code: number): ElementType | undefined => byCode.get(code);
/** The `data_type` of an element type, or undefined for one that is not allowed. */
export const codeOfType = (type: ElementType): number | undefined =>
  byCode.has(elementTypes[type].code) ? elementTypes[type].code : undefined;
