import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import type { FileRange } from "./ir.ts";

/** Bytes of an ONNX file, in memory or on disk; positions count from the start of the file. */
export interface Source {
  readonly length: number;
  /** A reader over a window that holds `start` to `end`; it begins at file position `base`. Valid until the next call. */
  window(start: number, end: number): { readonly reader: BinaryReader; readonly base: number };
  /** Bytes that stay valid. */
  bytes(start: number, end: number): Uint8Array;
  /** Fields that may still be read; a small file of tiny fields must not become gigabytes of objects. */
  fieldsLeft: number;
  /** Bytes of a weight: a view, or a place in the file. */
  payload(start: number, end: number): Uint8Array | FileRange;
}

/** A source over bytes in memory; everything taken from it is a view. */
export function memorySource(bytes: Uint8Array): Source {
  const window = { reader: new BinaryReader(bytes), base: 0 };
  const view = (start: number, end: number): Uint8Array => bytes.subarray(start, end);
  return { length: bytes.length, fieldsLeft: Infinity, window: () => window, bytes: view, payload: view };
}

/** One field of a message: content lies from `start` to `end`, for a varint these are its own bytes. */
export interface Field {
  readonly number: number;
  readonly wire: WireType;
  readonly start: number;
  readonly end: number;
}

/** Tag and length prefix, both varints. */
const longestHeader = 20;

export const truncated = (position: number, where: string): PeftError =>
  new PeftError("ONNX_TRUNCATED", `the file ends, or a length is wrong, at byte ${position} in ${where}.`, {
    hint: "Was the download complete?",
    details: { position, where },
  });

export const malformed = (position: number, where: string, reason: string): PeftError =>
  new PeftError("ONNX_INVALID", `expected a protobuf field at byte ${position} in ${where}: ${reason}.`, {
    hint: "Is this an ONNX file?",
    details: { position, where },
  });

/** The protobuf library's own errors as ours. */
function readError(cause: unknown, position: number, where: string): PeftError {
  if (PeftError.isInstance(cause)) return cause;
  return cause instanceof RangeError
    ? truncated(position, where)
    : malformed(position, where, cause instanceof Error ? cause.message : String(cause));
}

function readHeader(source: Source, position: number, end: number, where: string): Field {
  try {
    const { reader, base } = source.window(position, Math.min(end, position + longestHeader));
    reader.pos = position - base;
    const [number, wire] = reader.tag();
    const start = reader.pos + base;
    if (wire === WireType.Varint) {
      reader.skip(wire);
      return { number, wire, start, end: reader.pos + base };
    }
    if (wire === WireType.Bit32) return { number, wire, start, end: start + 4 };
    if (wire === WireType.Bit64) return { number, wire, start, end: start + 8 };
    if (wire !== WireType.LengthDelimited) throw malformed(position, where, "groups are not part of ONNX");
    const length = reader.uint32();
    const content = reader.pos + base;
    if (content - start > 5) throw malformed(start, where, "a length of more than 32 bits");
    return { number, wire, start: content, end: content + length };
  } catch (cause) {
    throw readError(cause, position, where);
  }
}

/** @throws PeftError ONNX_LIMIT when more fields or list entries are read than the limit of the source allows. */
export function countFields(source: Source, count: number, position: number, where: string): void {
  source.fieldsLeft -= count;
  if (source.fieldsLeft < 0) {
    throw new PeftError("ONNX_LIMIT", `the file has more fields than are allowed, at byte ${position} in ${where}.`);
  }
}

/**
 * Fields of the message that lies from `start` to `end`.
 * @throws PeftError ONNX_TRUNCATED, ONNX_INVALID, ONNX_LIMIT
 */
export function* fieldsOf(source: Source, start: number, end: number, where: string): Generator<Field, void> {
  for (let position = start; position < end; ) {
    const field = readHeader(source, position, end, where);
    if (field.end > end) throw truncated(position, where);
    countFields(source, 1, position, where);
    yield field;
    position = field.end;
  }
}

/** @throws PeftError ONNX_INVALID when the field is not of the wire type that its number calls for. */
export function expectWire(field: Field, wire: WireType, where: string): void {
  if (field.wire === wire) return;
  throw malformed(field.start, where, `field ${field.number} has wire type ${field.wire}, expected ${wire}`);
}

/** Value of a varint field as a signed 64-bit integer. */
export function readInt64(source: Source, field: Field, where: string): bigint {
  expectWire(field, WireType.Varint, where);
  try {
    const { reader, base } = source.window(field.start, field.end);
    reader.pos = field.start - base;
    return BigInt(reader.int64());
  } catch (cause) {
    throw readError(cause, field.start, where);
  }
}

/** Value of a varint field as a number. @throws PeftError ONNX_LIMIT when it is not a safe integer. */
export function readInt(source: Source, field: Field, where: string): number {
  const value = Number(readInt64(source, field, where));
  if (!Number.isSafeInteger(value)) {
    throw new PeftError(
      "ONNX_LIMIT",
      `expected a number below 2^53, received ${value} at byte ${field.start} in ${where}.`,
    );
  }
  return value;
}

/**
 * Calls `visit` with a reader in front of each varint of a repeated field, packed or not.
 * @throws PeftError ONNX_TRUNCATED, ONNX_INVALID
 */
export function eachVarint(source: Source, field: Field, where: string, visit: (reader: BinaryReader) => void): void {
  if (field.wire !== WireType.Varint) expectWire(field, WireType.LengthDelimited, where);
  const { reader, base } = source.window(field.start, field.end);
  reader.pos = field.start - base;
  try {
    while (reader.pos + base < field.end) visit(reader);
  } catch (cause) {
    throw readError(cause, reader.pos + base, where);
  }
  if (reader.pos + base > field.end) throw truncated(field.start, where);
}
