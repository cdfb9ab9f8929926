import { mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Shape } from "../../onnx/ir.ts";
import { createRowStore } from "./row-store.ts";
import { rowLayout, rowSize, stackRows, takeRow } from "./rows.ts";

describe("rows of a batch", () => {
  test.each([
    ["tokens first", ["b", "t", 2], [2, 5, 2], 3 * 2],
    ["tokens between", ["b", 3, "t", 2], [2, 3, 5, 2], 3 * 3 * 2],
    ["tokens last", ["b", 2, "t"], [2, 2, 5], 2 * 3],
    ["batch and tokens in one", ["b*t", 4], [2 * 5, 4], 3 * 4],
    ["no tokens", ["b", 4], [2, 4], 4],
  ] as [string, Shape, number[], number][])(
    "%s: taken out of one padding and put into another",
    (_, shape, dims, size) => {
      const layout = rowLayout({ name: "x", type: "float32", shape }, "b");
      expect(rowSize(layout, 3)).toBe(size);
      const rows = [3, 2].map((tokens, i) => ({
        tokens,
        data: Float32Array.from({ length: rowSize(layout, tokens) }, (_value, k) => 100 * (i + 1) + k),
      }));
      const batch = stackRows(layout, rows, 5);
      expect(batch.dims).toEqual(dims);
      expect(batch.data.length).toBe(dims.reduce((a, b) => a * b, 1));
      const filled = rows.reduce((sum, { data }) => sum + data.length, 0);
      expect((batch.data as Float32Array).filter((x) => x !== 0)).toHaveLength(filled);
      rows.forEach(({ tokens, data }, i) => {
        expect(takeRow(layout, batch.data as Float32Array, i, tokens, 5)).toEqual(data);
      });
    },
  );

  test("padding stands behind each row's tokens", () => {
    const layout = rowLayout({ name: "x", type: "float32", shape: ["b", 2, "t"] }, "b");
    const batch = stackRows(layout, [{ data: Float32Array.of(1, 2, 3, 4), tokens: 2 }], 3);
    expect([...batch.data]).toEqual([1, 2, 0, 3, 4, 0]);
  });
});

describe("row store", () => {
  test.each(["memory", "file"] as const)("%s", async (kind) => {
    const folder = kind === "file" ? await mkdtemp(join(tmpdir(), "onnx-peft-rows-")) : undefined;
    for (const precision of ["float32", "float16"] as const) {
      const store = await createRowStore({ folder, precision });
      const row = Float32Array.of(1.5, -0.1, 3);
      await store.put("a", row);
      await store.put("b", Float32Array.of(7));
      row.fill(0); // a copy is kept
      const found = await store.get("a");
      expect(found).toEqual(Float32Array.of(1.5, precision === "float16" ? -0.0999755859375 : -0.1, 3));
      expect(await store.get("b")).toEqual(Float32Array.of(7));
      expect(await store.get("c")).toBeNull();
      await store.close();
    }
    if (folder !== undefined) {
      const cut = await createRowStore({ folder });
      await cut.put("a", Float32Array.of(1, 2, 3));
      await truncate(join(folder, (await readdir(folder))[0]!, "rows"), 6);
      await expect(cut.get("a")).rejects.toMatchObject({ code: "PREFIX_ROWS" });
      await cut.close();
      expect(await readdir(folder)).toEqual([]);
      await rm(folder, { recursive: true });
    }
  });
});
