import { lstatSync, realpathSync, statSync } from "node:fs";
import { isAbsolute, join, relative, resolve, sep, win32 } from "node:path";
import { PeftError } from "../errors.ts";
import type { ExternalEntries } from "./decode-tensor.ts";
import type { FileRange } from "./ir.ts";

export interface ExternalOptions {
  /** Folder of the model file. */
  readonly folder: string;
  /**
   * Folders into which symbolic links, and from which hard links, are accepted: the `blobs` folder of a Hugging Face
   * cache, say. Default: none, every link is refused.
   */
  readonly allowLinksInto?: readonly string[];
}

const refuse = (message: string, where: string, hint?: string): PeftError =>
  new PeftError("ONNX_EXTERNAL_DATA", `${message} at ${where}.`, hint === undefined ? {} : { hint });

/** Engines mark weights that live in their own memory with such a location; followed, they would read arbitrary memory. */
const memoryMarker = /^\s*\*\/|_ORT_MEM_ADDR_/;

function checkLocation(location: string | undefined, where: string): string {
  if (location === undefined || location === "")
    throw refuse("expected a location of external data, received none", where);
  const shown = JSON.stringify(location);
  if (location.includes("\0")) throw refuse(`location ${shown} contains a zero byte`, where);
  if (memoryMarker.test(location)) throw refuse(`location ${shown} is an address in memory, not a file`, where);
  if (isAbsolute(location) || win32.isAbsolute(location) || /^[A-Za-z]:/.test(location)) {
    throw refuse(`expected a relative location, received ${shown}`, where, "Save the model with its data beside it.");
  }
  if (location.split(/[\\/]/).includes("..")) throw refuse(`location ${shown} leaves the folder of the model`, where);
  return location;
}

function parseSize(entries: ExternalEntries, key: string, where: string): number | undefined {
  const text = entries.get(key);
  if (text === undefined || text === "") return undefined;
  const value = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value))
    throw refuse(`expected a whole number as ${key}, received ${JSON.stringify(text)}`, where);
  return value;
}

const isInside = (folder: string, path: string): boolean => {
  const way = relative(folder, path);
  return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
};

function canonical(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

/** True when a component below `folder` on the way to `path` is a symbolic link. */
function passesLink(folder: string, path: string): boolean {
  let at = folder;
  for (const part of relative(folder, path).split(sep)) {
    at = join(at, part);
    if (lstatSync(at).isSymbolicLink()) return true;
  }
  return false;
}

function openFile(location: string, options: ExternalOptions, where: string): { path: string; size: number } {
  const folder = canonical(options.folder);
  if (folder === null) throw refuse(`folder ${options.folder} of the model does not exist`, where);
  const path = resolve(folder, location);
  const real = canonical(path);
  if (real === null) {
    throw refuse(
      `external data file ${JSON.stringify(location)} is missing in ${options.folder}`,
      where,
      "Download it beside the model.",
    );
  }
  const allowed = (options.allowLinksInto ?? []).some((root) => {
    const realRoot = canonical(root);
    return realRoot !== null && isInside(realRoot, real);
  });
  const hint = "If the link is yours, name its target's folder in allowLinksInto.";
  if (!allowed) {
    if (!isInside(folder, path) || !isInside(folder, real)) {
      throw refuse(`location ${JSON.stringify(location)} leaves the folder of the model`, where, hint);
    }
    if (passesLink(folder, path))
      throw refuse(`location ${JSON.stringify(location)} is or passes a symbolic link`, where, hint);
  }
  const stats = statSync(real);
  if (!stats.isFile()) throw refuse(`location ${JSON.stringify(location)} is not a regular file`, where);
  if (!allowed && stats.nlink > 1) {
    throw refuse(`location ${JSON.stringify(location)} is a hard link (${stats.nlink} names)`, where, hint);
  }
  return { path: real, size: stats.size };
}

/**
 * Turns `external_data` of tensors into file ranges. A location must be a relative path to a regular file inside the
 * folder of the model, reached through no link, and the range must lie in the file and fit the tensor.
 *
 * @throws PeftError ONNX_EXTERNAL_DATA
 */
export function externalResolver(
  options: ExternalOptions,
): (entries: ExternalEntries, expectedBytes: number, where: string) => FileRange {
  const files = new Map<string, { path: string; size: number }>();
  return (entries, expectedBytes, where) => {
    const location = checkLocation(entries.get("location"), where);
    const offset = parseSize(entries, "offset", where) ?? 0;
    const length = parseSize(entries, "length", where) ?? expectedBytes;
    if (length !== expectedBytes) {
      throw refuse(`expected ${expectedBytes} bytes for the tensor's type and shape, received length ${length}`, where);
    }
    const file = files.get(location) ?? openFile(location, options, where);
    files.set(location, file);
    if (offset > file.size || length > file.size - offset) {
      throw refuse(
        `bytes ${offset} to ${offset + length} are not in ${JSON.stringify(location)} of ${file.size} bytes`,
        where,
      );
    }
    return { path: file.path, offset, length };
  };
}

/**
 * Tensors may share a range as a whole (tied weights, or two views of one weight); ranges that overlap in part are a damaged
 * or hostile file.
 * @throws PeftError ONNX_EXTERNAL_DATA
 */
export function checkOverlaps(ranges: readonly FileRange[]): void {
  const byFile = new Map<string, FileRange[]>();
  for (const range of ranges) {
    if (range.length === 0) continue;
    const list = byFile.get(range.path);
    if (list) list.push(range);
    else byFile.set(range.path, [range]);
  }
  for (const [path, list] of byFile) {
    list.sort((a, b) => a.offset - b.offset || a.length - b.length);
    let last: FileRange | null = null;
    for (const range of list) {
      if (
        last &&
        range.offset < last.offset + last.length &&
        (range.offset !== last.offset || range.length !== last.length)
      ) {
        throw refuse(`bytes ${range.offset} to ${range.offset + range.length} overlap those of another tensor`, path);
      }
      last = range;
    }
  }
}

/** The resolver for bytes that came without a folder: refuses every reference. */
export function refuseExternal(entries: ExternalEntries, _expectedBytes: number, where: string): never {
  const location = JSON.stringify(entries.get("location") ?? "");
  throw refuse(`external data in ${location} but no folder to look in`, where, "Pass the folder of the model.");
}
