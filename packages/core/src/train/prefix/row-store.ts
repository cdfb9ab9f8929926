import { mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { PeftError } from "../../errors.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../onnx/half.ts";

/** How rows of numbers are kept. */
export interface RowStoreOptions {
  /** Where the file lies; rows are kept in memory without one. */
  readonly folder?: string | undefined;
  /** "float16" halves the space; default "float32". */
  readonly precision?: "float32" | "float16";
}

/** Keeps rows of numbers under a key. */
export interface RowStore {
  /** Keeps a copy. */
  put(key: string, row: Float32Array): Promise<void>;
  /** @returns null for a key that was never put. */
  get(key: string): Promise<Float32Array | null>;
  /** Frees what is kept; a file is removed. */
  close(): Promise<void>;
}

/** Bytes of a number that is kept. */
export const bytesPerNumber = (precision: RowStoreOptions["precision"]): number => (precision === "float16" ? 2 : 4);

/**
 * A store in memory, or in one file of a folder of its own inside `folder`, with the index in memory.
 * @throws Error of the file system; from `get` PeftError PREFIX_ROWS when the file was cut off
 */
export async function createRowStore({ folder, precision = "float32" }: RowStoreOptions): Promise<RowStore> {
  const pack = (row: Float32Array): Float32Array | Uint16Array =>
    precision === "float16" ? float32ToFloat16(row) : row.slice();
  const unpack = (kept: Float32Array | Uint16Array): Float32Array =>
    kept instanceof Float32Array ? kept : float16ToFloat32(kept);
  if (folder === undefined) {
    const rows = new Map<string, Float32Array | Uint16Array>();
    return {
      async put(key, row) {
        rows.set(key, pack(row));
      },
      async get(key) {
        const kept = rows.get(key);
        return kept ? unpack(kept) : null;
      },
      async close() {
        rows.clear();
      },
    };
  }
  await mkdir(folder, { recursive: true });
  const own = await mkdtemp(join(folder, "prefix-"));
  const file = await open(join(own, "rows"), "wx+");
  const index = new Map<string, { readonly offset: number; readonly length: number }>();
  let end = 0;
  return {
    async put(key, row) {
      const packed = pack(row);
      const bytes = new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
      const offset = end;
      end += bytes.length;
      for (let done = 0; done < bytes.length; ) {
        done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      }
      index.set(key, { offset, length: row.length });
    },
    async get(key) {
      const place = index.get(key);
      if (!place) return null;
      const kept = precision === "float16" ? new Uint16Array(place.length) : new Float32Array(place.length);
      const bytes = new Uint8Array(kept.buffer);
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done, place.offset + done);
        if (bytesRead === 0) {
          throw new PeftError("PREFIX_ROWS", `expected ${bytes.length} bytes of row "${key}", the file has ${done}.`, {
            hint: "Something else changed the file of kept activations: start the run again.",
          });
        }
        done += bytesRead;
      }
      return unpack(kept);
    },
    async close() {
      await file.close();
      await rm(own, { recursive: true, force: true });
    },
  };
}
