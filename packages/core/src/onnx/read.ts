import { closeSync, fstatSync, openSync, type Stats } from "node:fs";
import { dirname, resolve } from "node:path";
import { PeftError } from "../errors.ts";
import { type DecodeModelOptions, guarded } from "./decode.ts";
import { decodeSource } from "./decode-model.ts";
import { externalResolver } from "./external-data.ts";
import { fileSource, openForReading } from "./file-source.ts";
import type { Model } from "./ir.ts";

export { decodeModel } from "./decode.ts";

/** Options of {@link readModel}. */
export interface ReadOptions extends Omit<DecodeModelOptions, "folder"> {
  /** Weights of at least this many bytes stay in the file until they are needed. Default 16384. */
  readonly rangeThreshold?: number;
}

/**
 * A model from an ONNX file. Weights stay in the file (or its external data files) as file ranges, so that a file of
 * 1.5 GB needs a few MB; the files must stay as they are while the model is in use.
 *
 * @throws PeftError FILE_RANGE when the file cannot be read; else as {@link decodeModel}
 * @example
 * const model = await readModel("minilm/onnx/model.onnx");
 */
export async function readModel(path: string, options: ReadOptions = {}): Promise<Model> {
  const { limits, allowLinksInto, rangeThreshold = 16_384 } = options;
  const full = resolve(path);
  let descriptor: number;
  let stats: Stats;
  try {
    descriptor = openSync(full, openForReading);
    stats = fstatSync(descriptor);
  } catch (cause) {
    throw new PeftError("FILE_RANGE", `could not open ${path}: ${String(cause)}.`, { cause });
  }
  try {
    if (!stats.isFile()) throw new PeftError("FILE_RANGE", `expected a file, received something else at ${path}.`);
    const source = fileSource(descriptor, { path: full, size: stats.size, rangeThreshold });
    const external = externalResolver({ folder: dirname(full), ...(allowLinksInto && { allowLinksInto }) });
    return guarded(path, () => decodeSource(source, { ...(limits && { limits }), external }));
  } finally {
    closeSync(descriptor);
  }
}
