import { randomBytes } from "node:crypto";
import { chmod, type FileHandle, lstat, mkdir, open, readdir, realpath, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { PeftError } from "../errors.ts";

/** What can be written: all bytes at once, text (UTF-8), or pieces in order. */
export type WriteSource = Uint8Array | string | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** One write call moves at most this much: the system's own limit is 2^31 - 4096. */
const largestWrite = 2 ** 30;
const temporaryName = /^\..+\.[0-9a-f]{16}\.(tmp|old)$/;

/**
 * True for names that {@link atomicWrite} and {@link atomicWriteFolder} use while they work. A killed process leaves such
 * a file or folder behind; listings skip it.
 */
export const isTemporaryName = (name: string): boolean => temporaryName.test(name);

/** A name beside `path` that nobody else uses; the base name is cut so that the limit of 255 bytes holds. */
const beside = (path: string, suffix: "tmp" | "old"): string =>
  join(dirname(path), `.${basename(path).slice(0, 50)}.${randomBytes(8).toString("hex")}.${suffix}`);

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** Gives errors of the file system our code; others (the caller's, an abort) pass unchanged. */
function asWriteError(error: unknown, path: string): unknown {
  if (PeftError.isInstance(error) || (error as NodeJS.ErrnoException | undefined)?.syscall === undefined) return error;
  return new PeftError("WRITE_FAILED", `could not write ${path}: ${(error as Error).message}.`, {
    hint: "Check that the folder exists, is writable and has room; what was there before is unchanged.",
    cause: error,
  });
}

/** The path itself, or what it links to: a link stays a link, its target is replaced. */
async function targetOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return resolve(path);
    throw error;
  }
}

async function statOrNull(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

/** Makes a rename in `folder` survive a power cut. Systems that cannot open or sync a folder order it themselves. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } catch (error) {
    if (codeOf(error) !== "EINVAL" && codeOf(error) !== "ENOTSUP") throw error;
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, largestWrite));
    done += bytesWritten;
  }
}

const piecesOf = (source: WriteSource): Iterable<Uint8Array> | AsyncIterable<Uint8Array> => {
  if (typeof source === "string") return [Buffer.from(source, "utf8")];
  return source instanceof Uint8Array ? [source] : source;
};

/**
 * Writes a file so that readers, also after a crash or a power cut, see either the old content or the whole new one:
 * a temporary file in the same folder, synced, renamed over `path`, folder synced. The mode of a replaced file is kept.
 *
 * @throws PeftError WRITE_FAILED; whatever the source throws. In both cases the old file is untouched and nothing is left.
 * @example
 * await atomicWrite("run/state.json", JSON.stringify({ step: 10 }));
 */
export async function atomicWrite(path: string, source: WriteSource): Promise<void> {
  let temporary: string | undefined;
  try {
    const target = await targetOf(path);
    const previous = await statOrNull(target);
    temporary = beside(target, "tmp");
    const handle = await open(temporary, "wx");
    try {
      for await (const piece of piecesOf(source)) await writeAll(handle, piece);
      if (previous?.isFile()) await chmod(temporary, previous.mode & 0o7777);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
    await syncFolder(dirname(target));
  } catch (error) {
    if (temporary !== undefined) await rm(temporary, { force: true });
    throw asWriteError(error, path);
  }
}

/** Syncs every file and folder below `folder`. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) {
      const handle = await open(path, "r+");
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    }
  }
  await syncFolder(folder);
}

/**
 * Puts back what a process killed inside {@link atomicWriteFolder} had moved aside: of the two renames only the first was
 * done, `path` is missing and its old content lies beside it. Returns true when something was put back.
 *
 * @throws PeftError WRITE_FAILED
 */
export async function recoverFolder(path: string): Promise<boolean> {
  try {
    const target = await targetOf(path);
    if (await statOrNull(target)) return false;
    const parent = dirname(target);
    const start = `.${basename(target).slice(0, 50)}.`;
    const aside: { path: string; time: number }[] = [];
    for (const name of (await statOrNull(parent)) ? await readdir(parent) : []) {
      if (!name.startsWith(start) || !name.endsWith(".old") || name.length !== start.length + 20) continue;
      const stat = await statOrNull(join(parent, name));
      if (stat?.isDirectory()) aside.push({ path: join(parent, name), time: stat.ctimeMs });
    }
    const latest = aside.sort((a, b) => b.time - a.time)[0];
    if (!latest) return false;
    await rename(latest.path, target);
    await syncFolder(parent);
    return true;
  } catch (error) {
    throw asWriteError(error, path);
  }
}

/**
 * Writes a folder as a whole: `write` fills an empty folder beside `path`, which then takes its place. An existing folder
 * is moved aside first, put back when the exchange fails, and removed with everything in it when it succeeded. The
 * exchange is two renames; a process killed exactly between them leaves the old content for {@link recoverFolder}, which
 * the next call of this function runs first.
 *
 * @throws PeftError WRITE_FAILED; TARGET_NOT_A_FOLDER; whatever `write` throws
 * @example
 * await atomicWriteFolder("run/adapter", async (folder) => {
 *   await writeFile(join(folder, "adapter_config.json"), "{}");
 * });
 */
export async function atomicWriteFolder(
  path: string,
  write: (temporaryFolder: string) => Promise<void>,
): Promise<void> {
  let temporary: string | undefined;
  let old: string | undefined;
  try {
    await recoverFolder(path);
    const target = await targetOf(path);
    const previous = await statOrNull(target);
    if (previous && !previous.isDirectory()) {
      throw new PeftError("TARGET_NOT_A_FOLDER", `expected a folder or nothing at ${path}, found a file.`);
    }
    temporary = beside(target, "tmp");
    await mkdir(temporary);
    await write(temporary);
    await syncTree(temporary);
    if (previous) {
      old = beside(target, "old");
      await rename(target, old);
    }
    try {
      await rename(temporary, target);
    } catch (error) {
      if (old !== undefined) await rename(old, target);
      throw error;
    }
    await syncFolder(dirname(target));
    if (old !== undefined) await rm(old, { recursive: true, force: true });
  } catch (error) {
    if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
    throw asWriteError(error, path);
  }
}
