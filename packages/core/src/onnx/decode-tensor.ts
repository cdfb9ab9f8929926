import { type BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import { type ElementType, elementTypeOf, elementTypes } from "./element-type.ts";
import { elementCount } from "./elements.ts";
import type { FileRange, TensorData } from "./ir.ts";
import { checkDeclared, checkLimit, declaredBytes, type Limits } from "./limits.ts";
import { entryFields, externalLocation, tensorFields } from "./schema.ts";
import { eachVarint, expectWire, type Field, fieldsOf, readInt, type Source, truncated } from "./source.ts";

/** `external_data` of a tensor, keys as in the file. */
export type ExternalEntries = ReadonlyMap<string, string>;

export interface TensorContext {
  readonly source: Source;
  readonly limits: Limits;
  /** Place of external bytes; throws ONNX_EXTERNAL_DATA. */
  readonly external: (entries: ExternalEntries, expectedBytes: number, where: string) => FileRange;
  /** Bytes converted from typed data so far. */
  converted: number;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Text of a length-delimited field. @throws PeftError ONNX_LIMIT, ONNX_INVALID */
export function readText(context: TensorContext, field: Field, where: string): string {
  expectWire(field, WireType.LengthDelimited, where);
  checkLimit("bytes in a name", field.end - field.start, context.limits.maxNameLength, where);
  return decoder.decode(context.source.bytes(field.start, field.end));
}

/** Text, or the bytes where they are not UTF-8. */
export function readTextOrBytes(source: Source, field: Field, where: string): string | Uint8Array {
  expectWire(field, WireType.LengthDelimited, where);
  const bytes = source.bytes(field.start, field.end);
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return bytes;
  }
}

/** A key and value pair of metadata or external data. */
export function readEntry(context: TensorContext, field: Field, where: string): [key: string, value: string] {
  expectWire(field, WireType.LengthDelimited, where);
  let key = "";
  let value = "";
  for (const inner of fieldsOf(context.source, field.start, field.end, where)) {
    if (inner.number === entryFields.key) key = readText(context, inner, where);
    else if (inner.number === entryFields.value) {
      expectWire(inner, WireType.LengthDelimited, where);
      value = decoder.decode(context.source.bytes(inner.start, inner.end));
    }
  }
  return [key, value];
}

type DataField = "floatData" | "int32Data" | "int64Data" | "doubleData" | "uint64Data";

/** The typed field in which each element type is stored when it is not in raw_data. */
function dataFieldOf(type: ElementType): DataField {
  if (type === "float32" || type === "complex64") return "floatData";
  if (type === "float64" || type === "complex128") return "doubleData";
  if (type === "int64") return "int64Data";
  return type === "uint64" || type === "uint32" ? "uint64Data" : "int32Data";
}

const typedFields: ReadonlyMap<number, DataField> = new Map(
  (["floatData", "int32Data", "int64Data", "doubleData", "uint64Data"] as const).map((name) => [
    tensorFields[name],
    name,
  ]),
);

/** Varints of a typed field: every one ends with a byte below 0x80. */
function countVarints(source: Source, fields: readonly Field[]): number {
  let count = 0;
  for (const { start, end } of fields) {
    const bytes = source.bytes(start, end);
    for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) < 0x80) count++;
  }
  return count;
}

/** Floats and doubles lie in the file as in memory. */
function joinFixed(source: Source, fields: readonly Field[], total: number): Uint8Array {
  const [first] = fields;
  if (fields.length === 1 && first) return source.bytes(first.start, first.end);
  const out = new Uint8Array(total);
  let position = 0;
  for (const { start, end } of fields) {
    out.set(source.bytes(start, end), position);
    position += end - start;
  }
  return out;
}

/** One entry of int32_data or uint64_data into `width` bytes; signed and unsigned readings are both in use. */
function narrow(value: number, width: number, where: string): number {
  const limit = 2 ** (8 * width);
  if (value < -limit / 2 || value >= limit) {
    throw new PeftError("ONNX_INVALID", `value ${value} does not fit into ${width} bytes at ${where}.`);
  }
  return value;
}

function convertVarints(
  context: TensorContext,
  type: ElementType,
  fields: readonly Field[],
  entries: number,
  where: string,
) {
  const { source } = context;
  const visitAll = (visit: (reader: BinaryReader) => void): void => {
    for (const field of fields) eachVarint(source, field, where, visit);
  };
  let i = 0;
  if (type === "int64") {
    const out = new BigInt64Array(entries);
    visitAll((reader) => {
      out[i++] = BigInt(reader.int64());
    });
    return new Uint8Array(out.buffer);
  }
  if (type === "uint64") {
    const out = new BigUint64Array(entries);
    visitAll((reader) => {
      out[i++] = BigInt(reader.uint64());
    });
    return new Uint8Array(out.buffer);
  }
  // 4-bit types hold two elements in an entry, so an entry is one byte.
  const width = Math.max(1, elementTypes[type].bits / 8);
  const out = width === 4 ? new Uint32Array(entries) : width === 2 ? new Uint16Array(entries) : new Uint8Array(entries);
  visitAll((reader) => {
    const value = type === "uint32" ? Number(reader.uint64()) : reader.int32();
    out[i++] = narrow(value, width, where);
  });
  return new Uint8Array(out.buffer);
}

function decodeTyped(
  context: TensorContext,
  type: ElementType,
  dims: readonly number[],
  expected: number,
  fields: readonly Field[],
  where: string,
): Uint8Array {
  const fieldName = dataFieldOf(type);
  if (fieldName === "floatData" || fieldName === "doubleData") {
    const wire = fieldName === "floatData" ? WireType.Bit32 : WireType.Bit64;
    for (const field of fields) if (field.wire !== wire) expectWire(field, WireType.LengthDelimited, where);
    const total = fields.reduce((sum, { start, end }) => sum + end - start, 0);
    checkDeclared(expected, total, type, dims, where);
    return joinFixed(context.source, fields, total);
  }
  const entryBytes = Math.max(1, elementTypes[type].bits / 8);
  const entries = countVarints(context.source, fields);
  checkDeclared(expected, entries * entryBytes, type, dims, where);
  context.converted += expected;
  checkLimit("bytes of converted data", context.converted, context.limits.maxBytes, where);
  return convertVarints(context, type, fields, entries, where);
}

/** Parts of a TensorProto as they are found. */
interface Found {
  name: string;
  dims: number[];
  code: number;
  raw: Field | undefined;
  typed: Map<DataField, Field[]>;
  strings: string[];
  entries: Map<string, string>;
  isExternal: boolean;
}

function collect(context: TensorContext, start: number, end: number, where: string): Found {
  const { source } = context;
  const f = tensorFields;
  const found: Found = {
    name: "",
    dims: [],
    code: 0,
    raw: undefined,
    typed: new Map(),
    strings: [],
    entries: new Map(),
    isExternal: false,
  };
  for (const field of fieldsOf(source, start, end, where)) {
    const typed = typedFields.get(field.number);
    if (typed) {
      const list = found.typed.get(typed);
      if (list) list.push(field);
      else found.typed.set(typed, [field]);
    } else if (field.number === f.dims) {
      eachVarint(source, field, `${where}.dims`, (reader) => found.dims.push(Number(reader.int64())));
      checkLimit("dimensions", found.dims.length, context.limits.maxRank, where);
    } else if (field.number === f.dataType) found.code = readInt(source, field, `${where}.data_type`);
    else if (field.number === f.name) found.name = readText(context, field, `${where}.name`);
    else if (field.number === f.rawData) {
      expectWire(field, WireType.LengthDelimited, where);
      found.raw = field;
    } else if (field.number === f.stringData) {
      const text = readTextOrBytes(source, field, where);
      if (typeof text !== "string") {
        throw new PeftError("ONNX_UNSUPPORTED", `expected UTF-8 in string_data, received other bytes at ${where}.`);
      }
      found.strings.push(text);
    } else if (field.number === f.externalData) {
      const [key, value] = readEntry(context, field, `${where}.external_data`);
      if (found.entries.has(key)) {
        throw new PeftError("ONNX_EXTERNAL_DATA", `key "${key}" occurs twice at ${where}.external_data.`);
      }
      found.entries.set(key, value);
    } else if (field.number === f.dataLocation) {
      found.isExternal = readInt(source, field, `${where}.data_location`) === externalLocation;
    } else if (field.number === f.segment) {
      throw new PeftError(
        "ONNX_UNSUPPORTED",
        `tensors stored in segments are not supported, received one at ${where}.`,
      );
    }
  }
  return found;
}

/**
 * A TensorProto that lies from `start` to `end`.
 * @throws PeftError ONNX_TRUNCATED, ONNX_INVALID, ONNX_LIMIT, ONNX_UNSUPPORTED, ONNX_EXTERNAL_DATA, UNKNOWN_ELEMENT_TYPE
 */
export function decodeTensor(
  context: TensorContext,
  start: number,
  end: number,
  path: string,
): { name: string; tensor: TensorData } {
  if (end > context.source.length) throw truncated(start, path);
  const { name, dims, code, raw, typed, strings, entries, isExternal } = collect(context, start, end, path);
  const where = name ? `${path} ("${name}")` : path;
  const type = elementTypeOf(code, where);
  const expected = declaredBytes(type, dims, context.limits, where);
  const holds = (field: Field): boolean => field.end > field.start;
  const stores: string[] = [...typed].filter(([, fields]) => fields.some(holds)).map(([store]) => store);
  if (raw && holds(raw)) stores.push("rawData");
  if (isExternal) stores.push("externalData");
  if (strings.length > 0) stores.push("stringData");
  if (stores.length > 1) {
    throw new PeftError("ONNX_INVALID", `expected data in one field, received ${stores.join(" and ")} at ${where}.`);
  }
  if (type === "string") {
    const count = elementCount(dims, where);
    if (strings.length !== count || stores.some((store) => store !== "stringData")) {
      throw new PeftError(
        "ONNX_INVALID",
        `expected ${count} strings for [${dims}], received ${strings.length} at ${where}.`,
      );
    }
    return { name, tensor: { type, dims, data: new Uint8Array(0), strings } };
  }
  if (isExternal) return { name, tensor: { type, dims, data: context.external(entries, expected, where) } };
  if (raw && (holds(raw) || stores.length === 0)) {
    checkDeclared(expected, raw.end - raw.start, type, dims, where);
    return { name, tensor: { type, dims, data: context.source.payload(raw.start, raw.end) } };
  }
  const [store] = stores;
  if (store !== undefined && store !== dataFieldOf(type)) {
    throw new PeftError(
      "ONNX_INVALID",
      `expected ${type} data in ${dataFieldOf(type)}, received ${store} at ${where}.`,
    );
  }
  const data = decodeTyped(context, type, dims, expected, typed.get(dataFieldOf(type)) ?? [], where);
  return { name, tensor: { type, dims, data } };
}
