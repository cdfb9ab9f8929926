import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { PeftError } from "../errors.ts";
import { type ExternalReference, encodeParts, joinParts, largestMessage, type Part, tooLarge } from "./encode.ts";
import type { Model, TensorData } from "./ir.ts";
import { readFileRange, readTensorBytes } from "./tensor.ts";

/** Options of {@link encodeModel}. */
export interface EncodeOptions {
  /**
   * Where the bytes of an initialiser lie already, as a path relative to the folder the model will be opened in; null
   * embeds them. Default: embed all.
   */
  readonly reference?: (tensor: TensorData, name: string) => ExternalReference | null;
}

const totalLength = (parts: readonly Part[]): number => parts.reduce((sum, part) => sum + part.length, 0);

/**
 * An ONNX file in memory.
 *
 * @throws PeftError ONNX_LIMIT above 2 GB (use {@link EncodeOptions.reference} or `writeModel`); ONNX_INVALID, FILE_RANGE
 */
export function encodeModel(model: Model, options: EncodeOptions = {}): Uint8Array<ArrayBuffer> {
  const parts = encodeParts(model, { readBytes: readTensorBytes, reference: options.reference ?? (() => null) });
  const length = totalLength(parts);
  if (length > largestMessage) throw tooLarge("the model", length);
  return joinParts(parts, readFileRange);
}

/** Options of {@link writeModel}. */
export interface WriteOptions {
  /**
   * "none" embeds all weights; "auto" (default) does so up to 2 GB and else writes them to `<name>_data` beside the model;
   * an object always writes initialisers of at least `threshold` bytes (default 1024) to the named file in the same folder.
   */
  readonly externalData?: "none" | "auto" | { readonly fileName: string; readonly threshold?: number };
}

const defaultThreshold = 1024;
/** Large weights start at a page, so that an engine can map them; small ones at a cache line. */
const pageBytes = 4096;
const lineBytes = 64;
const pagedFrom = 1 << 20;
const copyBytes = 1 << 23;

export interface External {
  readonly fileName: string;
  readonly threshold: number;
}

/** The data file: its pieces, with the padding between them, and the place of each tensor. */
export function layOut(model: Model, { fileName, threshold }: External) {
  const parts: Part[] = [];
  const places = new Map<TensorData, ExternalReference>();
  // Tensors that share a range of a file go on sharing one: a small file could otherwise fill a disk.
  const shared = new Map<string, ExternalReference>();
  let position = 0;
  for (const tensor of model.graph.initializers.values()) {
    const { length } = tensor.data;
    if (length < threshold || length === 0 || tensor.type === "string" || places.has(tensor)) continue;
    const key = tensor.data instanceof Uint8Array ? null : `${tensor.data.offset}+${length} ${tensor.data.path}`;
    const known = key === null ? undefined : shared.get(key);
    if (known) {
      places.set(tensor, known);
      continue;
    }
    const alignment = length >= pagedFrom ? pageBytes : lineBytes;
    const offset = Math.ceil(position / alignment) * alignment;
    if (offset > position) parts.push(new Uint8Array(offset - position));
    parts.push(tensor.data);
    const place = { location: fileName, offset, length };
    places.set(tensor, place);
    if (key !== null) shared.set(key, place);
    position = offset + length;
  }
  return { parts, places };
}

async function writePart(file: FileHandle, part: Part): Promise<void> {
  if (part instanceof Uint8Array) {
    for (let done = 0; done < part.length; ) {
      done += (await file.write(part, done, Math.min(part.length - done, 2 ** 30))).bytesWritten;
    }
    return;
  }
  for (let done = 0; done < part.length; ) {
    const length = Math.min(copyBytes, part.length - done);
    await writePart(file, readFileRange({ path: part.path, offset: part.offset + done, length }));
    done += length;
  }
}

/** Writes a file beside `path` and flushes it; `commit` puts it in place, `discard` removes it. */
export async function stage(path: string, parts: readonly Part[]) {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  const discard = (): Promise<void> => rm(temporary, { force: true });
  try {
    const file = await open(temporary, "wx");
    try {
      for (const part of parts) await writePart(file, part);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    await discard();
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError("FILE_WRITE", `could not write ${path}: ${String(cause)}.`, { cause });
  }
  return { commit: () => rename(temporary, path), discard };
}

/** Systems that cannot flush a folder say so with one of these; the files themselves are flushed already. */
const cannotFlush = new Set(["EINVAL", "ENOTSUP", "EISDIR", "EPERM", "EACCES"]);

/** Makes renames in a folder durable. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (!cannotFlush.has((cause as NodeJS.ErrnoException).code ?? "")) throw cause;
  }
}

function chooseExternal(model: Model, path: string, option: WriteOptions["externalData"]): External | null {
  if (option === "none") return null;
  if (typeof option === "object") {
    if (basename(option.fileName) !== option.fileName || /^\.{0,2}$|[\\/]/.test(option.fileName)) {
      throw new PeftError(
        "ONNX_EXTERNAL_DATA",
        `expected a plain file name, received ${JSON.stringify(option.fileName)}.`,
      );
    }
    if (option.fileName === basename(path)) {
      throw new PeftError(
        "ONNX_EXTERNAL_DATA",
        `external data cannot go into the model file ${option.fileName} itself.`,
      );
    }
    return { fileName: option.fileName, threshold: option.threshold ?? defaultThreshold };
  }
  let bytes = 0;
  for (const tensor of model.graph.initializers.values()) bytes += tensor.data.length;
  // The graph beside the weights takes some MB.
  return bytes < largestMessage - 2 ** 26 ? null : { fileName: `${basename(path)}_data`, threshold: defaultThreshold };
}

/**
 * Writes an ONNX file, with its external data file where asked for. Each file appears whole or not at all: it is written
 * beside its place, flushed, and renamed, the data file first. Weights that are file ranges are copied in pieces of 8 MB.
 * File ranges into a file that is overwritten are stale afterwards: read the model again.
 *
 * @throws PeftError ONNX_LIMIT, ONNX_INVALID, ONNX_EXTERNAL_DATA, FILE_RANGE, FILE_WRITE
 * @example
 * await writeModel(model, "out/model.onnx", { externalData: { fileName: "model.onnx_data" } });
 */
export async function writeModel(model: Model, path: string, options: WriteOptions = {}): Promise<void> {
  const full = resolve(path);
  const external = chooseExternal(model, full, options.externalData);
  const { parts, places } = external ? layOut(model, external) : { parts: [], places: new Map() };
  const reference = (tensor: TensorData): ExternalReference | null => places.get(tensor) ?? null;
  const head = encodeParts(model, { readBytes: readTensorBytes, reference });
  const length = totalLength(head);
  if (length > largestMessage) throw tooLarge("the model", length);
  const staged: Awaited<ReturnType<typeof stage>>[] = [];
  try {
    if (external && parts.length > 0) staged.push(await stage(join(dirname(full), external.fileName), parts));
    staged.push(await stage(full, head));
    for (const { commit } of staged) await commit();
    await syncFolder(dirname(full));
  } catch (cause) {
    for (const { discard } of staged) await discard();
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError("FILE_WRITE", `could not write ${path}: ${String(cause)}.`, { cause });
  }
}
