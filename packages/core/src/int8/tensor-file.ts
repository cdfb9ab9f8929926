import { closeSync, openSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import type { TensorData } from "../onnx/ir.ts";
import { readTensorBytes } from "../onnx/tensor.ts";

/** Tensors from this size on start at a page, so that an engine can map them; smaller ones at a cache line. */
const pagedFrom = 1 << 20;

/** A file that tensors are appended to, one after another. */
export interface TensorFile {
  /** Writes a tensor's bytes and returns the same tensor as a place in the file. */
  append(tensor: TensorData): TensorData;
  close(): void;
}

/**
 * Creates a file that holds nothing but tensor bytes: external data for graphs that are built later. Of a large model one
 * weight at a time is in memory, and all sessions that open the file share its pages.
 * @throws Error of the file system, also when the file exists.
 */
export function createTensorFile(path: string): TensorFile {
  const absolute = resolve(path);
  const file = openSync(absolute, "wx");
  let end = 0;
  return {
    append(tensor) {
      const bytes = readTensorBytes(tensor);
      const alignment = bytes.length >= pagedFrom ? 4096 : 64;
      const offset = Math.ceil(end / alignment) * alignment;
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 30), offset + done);
      }
      end = offset + bytes.length;
      return { ...tensor, data: { path: absolute, offset, length: bytes.length } };
    },
    close: () => closeSync(file),
  };
}
