import { createHash } from "node:crypto";
import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { PeftError } from "../errors.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import type { TensorData } from "../onnx/ir.ts";
import { readTensorBytes } from "../onnx/tensor.ts";
import { type Matrix, matrix } from "./matrix.ts";

/** Results of decompositions on disk, by what they were made from. */
export interface MatrixCache {
  get(key: string): Promise<Matrix[] | null>;
  set(key: string, matrices: readonly Matrix[]): Promise<void>;
}

/** Changes whenever an algorithm changes, so that old results are not taken for new ones. */
const version = 1;

/** The name of a result: a hash of the operation and of every bit of its matrix. */
export function contentKey(operation: string, { rows, columns, data }: Matrix): string {
  const hash = createHash("sha256").update(`${operation} ${version} ${rows} ${columns} `);
  return hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest("hex");
}

const fileName = /^[0-9a-f]{64}\.safetensors$/;

const tensorOf = ({ rows, columns, data }: Matrix): TensorData => ({
  type: "float64",
  dims: [rows, columns],
  data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

function matrixOf({ type, dims, ...tensor }: TensorData): Matrix {
  const [rows, columns] = dims;
  if (type !== "float64" || rows === undefined || columns === undefined || dims.length !== 2) {
    throw new PeftError("MATRIX_CACHE", `expected float64 matrices, received ${type} [${dims}].`);
  }
  // Copied to an address that suits doubles.
  return matrix(rows, columns, new Float64Array(Uint8Array.from(readTensorBytes({ type, dims, ...tensor })).buffer));
}

/**
 * A cache in a folder of its own. Files are written atomically; one that is damaged counts as missing and is removed. When the
 * folder grows beyond `maxBytes`, what was not read for the longest time goes; a result larger than that is not kept.
 * Several processes may use one folder.
 *
 * @param options.maxBytes Default 2 GiB. The factors of a 3072 x 768 matrix take 24 MB.
 * @throws PeftError WRITE_FAILED from `set`
 * @example
 * const pool = createLinalgPool({ cache: createMatrixCache(".cache/onnx-peft/linalg") });
 */
export function createMatrixCache(folder: string, options: { readonly maxBytes?: number } = {}): MatrixCache {
  const { maxBytes = 2 ** 31 } = options;
  const pathOf = (key: string): string => join(folder, `${key}.safetensors`);

  async function trim(): Promise<void> {
    const names = (await readdir(folder)).filter((name) => fileName.test(name));
    const files = await Promise.all(
      names.map(async (name) => {
        // Another process may have removed it meanwhile.
        const found = await stat(join(folder, name)).catch(() => null);
        return { name, bytes: found?.size ?? 0, used: found?.mtimeMs ?? 0 };
      }),
    );
    let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { name, bytes } of files.sort((a, b) => a.used - b.used)) {
      if (total <= maxBytes) return;
      await rm(join(folder, name), { force: true });
      total -= bytes;
    }
  }

  return {
    async get(key) {
      const path = pathOf(key);
      try {
        const { tensors } = await readSafetensors(path);
        const found = Array.from({ length: tensors.size }, (_, i) => {
          const tensor = tensors.get(String(i));
          if (!tensor) throw new PeftError("MATRIX_CACHE", `${path} has no matrix ${i}.`);
          return matrixOf(tensor);
        });
        const now = new Date();
        await utimes(path, now, now).catch(() => undefined); // a folder that may only be read is still of use
        return found;
      } catch (error) {
        if (!PeftError.isInstance(error)) throw error;
        if (error.code !== "FILE_MISSING") await rm(path, { force: true });
        return null;
      }
    },
    async set(key, matrices) {
      const bytes = matrices.reduce((sum, { data }) => sum + data.byteLength, 0);
      if (bytes > maxBytes) return;
      await mkdir(folder, { recursive: true });
      await writeSafetensors(
        pathOf(key),
        matrices.map((m, i) => [String(i), tensorOf(m)] as const),
      );
      await trim();
    },
  };
}
