import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { matrix, matrixFrom } from "./matrix.ts";
import { contentKey, createMatrixCache, type MatrixCache } from "./matrix-cache.ts";
import { operations } from "./operations.ts";
import { createLinalgPool } from "./pool.ts";

const root = mkdtempSync(join(tmpdir(), "linalg-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const freshFolder = (): string => join(root, `${count++}`);

const some = (rows: number, columns: number, seed = 1) =>
  matrixFrom(rows, columns, (i, j) => Math.sin(seed + 7 * i + 3 * j * j));
const symmetric = matrixFrom(6, 6, (i, j) => Math.cos(i + j));

test("threads give what the functions give", async () => {
  await using pool = createLinalgPool({ threads: 2 });
  const a = some(9, 5);
  for (const name of ["svd", "qr", "ldu"] as const) {
    const operation = operations[name];
    expect(await pool.run(name, a)).toEqual(operation.unpack(operation.pack(a)));
  }
  const eigen = operations.symmetricEigen;
  expect(await pool.run("symmetricEigen", symmetric)).toEqual(eigen.unpack(eigen.pack(symmetric)));
  const many = await Promise.all(Array.from({ length: 7 }, (_, i) => pool.run("svd", some(4, 4, i))));
  expect(many.map(({ s }) => s[0])).toEqual(
    Array.from({ length: 7 }, (_, i) => operations.svd.pack(some(4, 4, i))[1]!.data[0]),
  );
});

test("errors keep their code, the pool goes on, and ends when it is closed", async () => {
  const pool = createLinalgPool({ threads: 1 });
  await expect(pool.run("svd", matrix(1, 1, [Number.NaN]))).rejects.toMatchObject({ code: "MATRIX_NOT_FINITE" });
  await expect(pool.run("symmetricEigen", some(2, 3))).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  expect((await pool.run("svd", matrix(1, 1, [-2]))).s[0]).toBe(2);
  const left = [pool.run("svd", some(300, 300)), pool.run("svd", some(3, 3))].map((job) =>
    job.then(
      () => "done",
      (error: { code: string }) => error.code,
    ),
  );
  await pool.close();
  expect(await Promise.all(left)).toEqual(["LINALG_WORKER", "LINALG_WORKER"]);
  await expect(pool.run("svd", some(2, 2))).rejects.toMatchObject({ code: "LINALG_WORKER" });
  expect(() => createLinalgPool({ threads: 0 })).toThrow(expect.objectContaining({ code: "LINALG_WORKER" }));
});

test("work is stopped by its signal, also in the middle, and the next job runs", async () => {
  await using pool = createLinalgPool({ threads: 1 });
  await pool.run("svd", some(2, 2));
  const controller = new AbortController();
  const long = pool.run("svd", some(700, 700), { signal: controller.signal });
  const queued = pool.run("svd", some(2, 2), { signal: controller.signal });
  const next = pool.run("svd", matrix(1, 1, [3]));
  setTimeout(() => controller.abort(), 20);
  await expect(long).rejects.toMatchObject({ code: "ABORTED" });
  await expect(queued).rejects.toMatchObject({ code: "ABORTED" });
  expect((await next).s[0]).toBe(3);
  await expect(pool.run("svd", some(2, 2), { signal: controller.signal })).rejects.toMatchObject({ code: "ABORTED" });
});

test("results are kept by content, and equal calls at one time are computed once", async () => {
  const disk = createMatrixCache(freshFolder());
  const stored: string[] = [];
  const cache: MatrixCache = {
    get: (key) => disk.get(key),
    async set(key, parts) {
      stored.push(key);
      await disk.set(key, parts);
    },
  };
  await using pool = createLinalgPool({ threads: 2, cache });
  const a = some(6, 4);
  const [first, second] = await Promise.all([pool.run("svd", a), pool.run("svd", some(6, 4))]);
  expect(second).toEqual(first);
  expect(await pool.run("svd", a)).toEqual(first);
  expect(stored).toEqual([contentKey("svd", a)]);
  await pool.run("ldu", a);
  await pool.run("svd", matrix(4, 6, a.data));
  await pool.run(
    "svd",
    matrix(
      6,
      4,
      a.data.map((x, i) => (i === 0 ? x + 1e-15 : x)),
    ),
  );
  expect(new Set(stored).size).toBe(4);
});

test("a damaged file counts as missing and is removed", async () => {
  const folder = freshFolder();
  const cache = createMatrixCache(folder);
  const key = contentKey("svd", some(2, 2));
  expect(await cache.get(key)).toBe(null);
  await cache.set(key, [some(2, 2), some(1, 3)]);
  expect(await cache.get(key)).toEqual([some(2, 2), some(1, 3)]);
  const path = join(folder, `${key}.safetensors`);
  writeFileSync(path, "half a file");
  expect(await cache.get(key)).toBe(null);
  expect(readdirSync(folder)).toEqual([]);
});

test("the folder stays below its limit: what was read last stays", async () => {
  const folder = freshFolder();
  const keyOf = (i: number): string => contentKey("svd", matrix(1, 1, [i]));
  const pathOf = (i: number): string => join(folder, `${keyOf(i)}.safetensors`);
  const large = createMatrixCache(folder);
  for (let i = 0; i < 4; i++) {
    await large.set(keyOf(i), [some(16, 16, i)]);
    utimesSync(pathOf(i), 1000 + i, 1000 + i);
  }
  writeFileSync(join(folder, "notes.txt"), "not ours");
  const each = statSync(pathOf(0)).size;
  const small = createMatrixCache(folder, { maxBytes: 3 * each });
  expect(await small.get(keyOf(0))).not.toBe(null);
  await small.set(keyOf(4), [some(16, 16, 4)]);
  const left = [0, 1, 2, 3, 4].filter((i) => readdirSync(folder).includes(`${keyOf(i)}.safetensors`));
  expect(left).toEqual([0, 3, 4]);
  expect(readdirSync(folder)).toContain("notes.txt");
  await small.set(keyOf(5), [some(64, 64)]);
  expect(await small.get(keyOf(5))).toBe(null);
});
