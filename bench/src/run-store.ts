import { appendFile, mkdir, readFile, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { atomicWrite } from "@onnx-peft/core";

/** Results that are kept in a file as soon as they are there, so that a long series of runs can be interrupted. */
export interface RunStore<T> {
  get(key: string): T | undefined;
  set(key: string, value: T): Promise<void>;
  /** Forgets results, in the file too. */
  remove(isStale: (key: string) => boolean): Promise<void>;
  keys(): string[];
}

/** One result as a line of the file. */
interface Line<T> {
  readonly key: string;
  readonly value: T;
}

/**
 * A store in a JSON Lines file: a line per result, the last one with a key counts. A last line that was cut off by a kill is
 * removed; its run is made again.
 * @throws SyntaxError for a damaged line before the last
 * @example
 * const store = await openRunStore<number>("runs/losses.jsonl");
 * await store.set("seed 1", 0.3);
 */
export async function openRunStore<T>(path: string): Promise<RunStore<T>> {
  const found = new Map<string, T>();
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  for (const line of whole.split("\n")) {
    if (line === "") continue;
    const { key, value } = JSON.parse(line) as Line<T>;
    found.set(key, value);
  }
  if (whole.length < text.length) await truncate(path, Buffer.byteLength(whole));
  const lineOf = (key: string, value: T): string => `${JSON.stringify({ key, value } satisfies Line<T>)}\n`;
  return {
    get: (key) => found.get(key),
    async set(key, value) {
      await mkdir(dirname(path), { recursive: true });
      await appendFile(path, lineOf(key, value));
      found.set(key, value);
    },
    async remove(isStale) {
      const stale = [...found.keys()].filter(isStale);
      if (stale.length === 0) return;
      for (const key of stale) found.delete(key);
      await atomicWrite(path, [...found].map(([key, value]) => lineOf(key, value)).join(""));
    },
    keys: () => [...found.keys()],
  };
}
