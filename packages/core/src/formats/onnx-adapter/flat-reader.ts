import { PeftError } from "../../errors.ts";

const invalid = (problem: string): PeftError =>
  new PeftError("ONNX_ADAPTER_INVALID", `expected an ONNX Runtime adapter file, but ${problem}.`);

/** A table: its own position and that of its list of field offsets. */
export interface FlatTable {
  readonly at: number;
  readonly fields: number;
  readonly fieldsEnd: number;
  /** Bytes of the fields that are stored in the table. */
  readonly size: number;
}

/** A list inside the file. */
export interface FlatVector {
  readonly at: number;
  readonly length: number;
}

/**
 * Reads a flatbuffer that nobody has verified: every position is checked against the file before it is used. The reader of
 * the `flatbuffers` package trusts its input and would return zeros or data from elsewhere.
 */
export class FlatReader {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  static invalid = invalid;

  #check(at: number, length: number, what: string): void {
    if (at < 0 || at + length > this.bytes.length) {
      throw invalid(`${what} lies at bytes ${at} to ${at + length} of ${this.bytes.length}`);
    }
  }

  #uint32(at: number, what: string): number {
    this.#check(at, 4, what);
    return this.#view.getUint32(at, true);
  }

  /** Where the offset stored at `at` points to: forwards, never to itself. */
  #target(at: number, what: string): number {
    const offset = this.#uint32(at, what);
    if (offset === 0) throw invalid(`${what} points to itself`);
    return at + offset;
  }

  identifier(): string {
    this.#check(0, 8, "the start");
    return String.fromCharCode(...this.bytes.subarray(4, 8));
  }

  #table(at: number, what: string): FlatTable {
    this.#check(at, 4, what);
    const fields = at - this.#view.getInt32(at, true);
    this.#check(fields, 4, `the field list of ${what}`);
    const fieldsSize = this.#view.getUint16(fields, true);
    const size = this.#view.getUint16(fields + 2, true);
    if (fieldsSize < 4 || fieldsSize % 2 !== 0 || size < 4)
      throw invalid(`the field list of ${what} has no valid size`);
    this.#check(fields, fieldsSize, `the field list of ${what}`);
    this.#check(at, size, what);
    return { at, fields, fieldsEnd: fields + fieldsSize, size };
  }

  root(): FlatTable {
    return this.#table(this.#target(0, "the root"), "the root");
  }

  /** Position of a field, or null when the table does not have it. */
  #field({ at, fields, fieldsEnd, size }: FlatTable, slot: number, width: number, what: string): number | null {
    const entry = fields + 4 + 2 * slot;
    if (entry + 2 > fieldsEnd) return null;
    const offset = this.#view.getUint16(entry, true);
    if (offset === 0) return null;
    if (offset < 4 || offset + width > size) throw invalid(`${what} lies outside its table`);
    return at + offset;
  }

  int32(table: FlatTable, slot: number, what: string): number {
    const at = this.#field(table, slot, 4, what);
    return at === null ? 0 : this.#view.getInt32(at, true);
  }

  /** A list of items of `width` bytes, or null when the table does not have it. */
  vector(table: FlatTable, slot: number, width: number, what: string): FlatVector | null {
    const field = this.#field(table, slot, 4, what);
    if (field === null) return null;
    const start = this.#target(field, what);
    const length = this.#uint32(start, what);
    this.#check(start + 4, length * width, what);
    return { at: start + 4, length };
  }

  /** Item `index` of a list of tables. */
  tableOf(vector: FlatVector, index: number, what: string): FlatTable {
    return this.#table(this.#target(vector.at + 4 * index, what), what);
  }

  int64(vector: FlatVector, index: number): bigint {
    return this.#view.getBigInt64(vector.at + 8 * index, true);
  }

  bytesOf({ at, length }: FlatVector): Uint8Array {
    return this.bytes.subarray(at, at + length);
  }
}
