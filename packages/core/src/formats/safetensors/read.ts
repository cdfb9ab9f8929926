import { open, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { headerLength, invalid, parseHeader } from "./header.ts";

/** The content of a safetensors file. Tensors are in the order of their bytes. */
export interface Safetensors {
  tensors: Map<string, TensorData>;
  /** The texts under `__metadata__`; empty when the file has none. */
  metadata: Record<string, string>;
}

/**
 * Reads a safetensors file that is in memory. Tensors are views of `bytes`, nothing is copied; the whole header is
 * checked first (types, shapes against offsets, every byte used once).
 *
 * @throws PeftError SAFETENSORS_INVALID with all problems; PICKLE_REFUSED
 * @example
 * const { tensors } = decodeSafetensors(encodeSafetensors([["a", tensorFrom("float32", [2], [1, 2])]]));
 * tensors.get("a")?.dims; // [2]
 */
export function decodeSafetensors(bytes: Uint8Array, where = "the data"): Safetensors {
  const length = headerLength(bytes.subarray(0, 8), bytes.length, where);
  const dataStart = 8 + length;
  const { entries, metadata } = parseHeader(bytes.subarray(8, dataStart), bytes.length - dataStart, where);
  const tensors = new Map<string, TensorData>();
  for (const { name, type, dims, begin, end } of entries) {
    tensors.set(name, { type, dims, data: bytes.subarray(dataStart + begin, dataStart + end) });
  }
  return { tensors, metadata };
}

/** Stops where reading a pipe would block for ever and where a device would never end. */
async function checkRegularFile(path: string): Promise<void> {
  try {
    if ((await stat(path)).isFile()) return;
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code === "ENOENT" ? "FILE_MISSING" : "FILE_UNREADABLE";
    throw new PeftError(code, `expected a safetensors file at ${path}: ${(cause as Error).message}.`, { cause });
  }
  throw new PeftError("FILE_UNREADABLE", `expected a file at ${path}, found a folder or a device.`);
}

/**
 * Opens a safetensors file. Only the header is read; tensors are places in the file, read when they are needed.
 * Headers of more than 100 MB are refused.
 *
 * @throws PeftError SAFETENSORS_INVALID with all problems; PICKLE_REFUSED; FILE_MISSING; FILE_UNREADABLE
 * @example
 * const { tensors, metadata } = await readSafetensors("adapter_model.safetensors");
 */
export async function readSafetensors(path: string): Promise<Safetensors> {
  const file = resolve(path);
  await checkRegularFile(file);
  try {
    const handle = await open(file, "r");
    try {
      const { size } = await handle.stat();
      const start = await handle.read(new Uint8Array(8), 0, 8, 0);
      const length = headerLength(start.buffer.subarray(0, start.bytesRead), size, file);
      const header = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle.read(header, done, length - done, 8 + done);
        if (bytesRead === 0) throw invalid(file, `it ended at byte ${8 + done} while it was read`);
        done += bytesRead;
      }
      const dataStart = 8 + length;
      const { entries, metadata } = parseHeader(header, size - dataStart, file);
      const tensors = new Map<string, TensorData>();
      for (const { name, type, dims, begin, end } of entries) {
        tensors.set(name, { type, dims, data: { path: file, offset: dataStart + begin, length: end - begin } });
      }
      return { tensors, metadata };
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError("FILE_UNREADABLE", `could not read ${file}: ${(cause as Error).message}.`, { cause });
  }
}
