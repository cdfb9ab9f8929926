import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openRunStore } from "./run-store.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "onnx-peft-store-"));
});
afterEach(() => rm(folder, { recursive: true }));

test("results are there again when the file is opened again, and the last one counts", async () => {
  const path = join(folder, "deep", "runs.jsonl");
  const store = await openRunStore<{ loss: number }>(path);
  expect(store.get("a")).toBeUndefined();
  await store.set("a", { loss: 1 });
  await store.set("b", { loss: 2 });
  await store.set("a", { loss: 3 });
  const again = await openRunStore<{ loss: number }>(path);
  expect(again.keys()).toEqual(["a", "b"]);
  expect(again.get("a")).toEqual({ loss: 3 });
});

test("a line that a kill cut off is left out, and does not spoil the next", async () => {
  const path = join(folder, "runs.jsonl");
  await (await openRunStore<number>(path)).set("a", 1);
  await appendFile(path, '{"key":"b","val');
  const store = await openRunStore<number>(path);
  expect(store.keys()).toEqual(["a"]);
  await store.set("c", 3);
  expect((await openRunStore<number>(path)).keys()).toEqual(["a", "c"]);
  expect((await readFile(path, "utf8")).split("\n")).toHaveLength(3);
});

test("damage before the last line is an error", async () => {
  const path = join(folder, "runs.jsonl");
  await appendFile(path, '{"key":"b","val\n{"key":"a","value":1}\n');
  await expect(openRunStore<number>(path)).rejects.toThrow(SyntaxError);
});

test("what is removed is gone from the file", async () => {
  const path = join(folder, "runs.jsonl");
  const store = await openRunStore<number>(path);
  for (const [i, key] of ["a", "b", "c"].entries()) await store.set(key, i);
  await store.remove((key) => key === "b");
  expect(store.get("b")).toBeUndefined();
  expect(await readFile(path, "utf8")).toBe('{"key":"a","value":0}\n{"key":"c","value":2}\n');
});
