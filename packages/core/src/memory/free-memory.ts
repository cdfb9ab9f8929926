import { readFileSync } from "node:fs";
import { freemem } from "node:os";
import { join } from "node:path";

/** Text of a file, or null when it cannot be read. */
export type ReadText = (path: string) => string | null;

const readText: ReadText = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
};

/** Limits at or above this stand for "none": version 1 of control groups writes the largest number of pages. */
const NO_LIMIT = 2 ** 60;

const bytesIn = (text: string | null): number | null => {
  const value = Number(text?.trim());
  return text !== null && text.trim() !== "" && Number.isFinite(value) ? value : null;
};

const statistic = (text: string | null, name: string): number =>
  Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text ?? "")?.[1] ?? 0);

/**
 * Memory that a new process may take without swapping or being killed, in bytes: what Linux calls available (MemAvailable:
 * free, and caches it can drop), and no more than what the control group (version 1 or 2) of this process leaves, whose
 * cached files count as free. On other systems what the operating system reports as free.
 * @param read of system files; for tests.
 */
export function freeMemory(read: ReadText = readText, systemFree: () => number = freemem): number {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(read("/proc/meminfo") ?? "")?.[1];
  if (available === undefined) return systemFree();
  const groups = read("/proc/self/cgroup") ?? "";
  const left = [Number(available) * 1024, ...leftInVersion2(groups, read), ...leftInVersion1(groups, read)];
  return Math.max(0, Math.min(...left));
}

/** The group's own files, and those of the groups above it, whose limits hold too. */
function* foldersOf(root: string, path: string): Generator<string> {
  const parts = path.split("/").filter((part) => part !== "");
  for (let n = parts.length; n >= 0; n--) yield join(root, ...parts.slice(0, n));
}

function leftInVersion2(groups: string, read: ReadText): number[] {
  const path = /^0::(.*)$/m.exec(groups)?.[1];
  if (path === undefined) return [];
  return [...foldersOf("/sys/fs/cgroup", path)].flatMap((folder) => {
    const limit = bytesIn(read(join(folder, "memory.max")));
    const used = bytesIn(read(join(folder, "memory.current")));
    if (limit === null || used === null) return [];
    return [limit - used + statistic(read(join(folder, "memory.stat")), "inactive_file")];
  });
}

function leftInVersion1(groups: string, read: ReadText): number[] {
  const path = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1] ?? "/";
  return [...foldersOf("/sys/fs/cgroup/memory", path)].flatMap((folder) => {
    const limit = bytesIn(read(join(folder, "memory.limit_in_bytes")));
    const used = bytesIn(read(join(folder, "memory.usage_in_bytes")));
    if (limit === null || used === null || limit >= NO_LIMIT) return [];
    return [limit - used + statistic(read(join(folder, "memory.stat")), "total_inactive_file")];
  });
}
