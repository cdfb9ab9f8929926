import { constants, readSync } from "node:fs";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import type { Source } from "./source.ts";

/** Without O_NONBLOCK, opening a named pipe waits for a writer, for ever. */
export const openForReading: number = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

const windowBytes = 64 * 1024;

export interface FileSourceOptions {
  /** Absolute path, for the ranges handed out. */
  readonly path: string;
  readonly size: number;
  /** Payloads of at least this many bytes stay in the file. */
  readonly rangeThreshold: number;
}

/**
 * A source over an open file that keeps one window of 64 KB (or of one large field) in memory.
 * The caller closes the descriptor, after decoding.
 */
export function fileSource(descriptor: number, { path, size, rangeThreshold }: FileSourceOptions): Source {
  const load = (start: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const read = readSync(descriptor, bytes, done, Math.min(length - done, 2 ** 30), start + done);
      if (read === 0) throw new PeftError("ONNX_TRUNCATED", `${path} ended at byte ${start + done} while it was read.`);
      done += read;
    }
    return bytes;
  };
  let bytes = load(0, Math.min(size, windowBytes));
  let window = { reader: new BinaryReader(bytes), base: 0 };
  const at = (start: number, end: number): typeof window => {
    if (start < window.base || end > window.base + bytes.length) {
      bytes = load(start, Math.min(size - start, Math.max(end - start, windowBytes)));
      window = { reader: new BinaryReader(bytes), base: start };
    }
    return window;
  };
  const copy = (start: number, end: number): Uint8Array => {
    if (end - start > windowBytes) return load(start, end - start);
    const { base } = at(start, end);
    return bytes.slice(start - base, end - base);
  };
  return {
    length: size,
    fieldsLeft: Infinity,
    window: at,
    bytes: copy,
    payload: (start, end) =>
      end - start < rangeThreshold ? copy(start, end) : { path, offset: start, length: end - start },
  };
}
