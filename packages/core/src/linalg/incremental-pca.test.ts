import { describe, expect, test } from "vitest";
import { createRandom } from "../random/random.ts";
import { extendPca, type IncrementalPca, rowCosines } from "./incremental-pca.ts";
import { type Matrix, matrix, matrixFrom, multiply, rowRange, scaleColumns } from "./matrix.ts";
import { svd } from "./svd.ts";

const random = createRandom(6);
/** Rows with variances that fall, around a mean that is not zero. */
const rowsOf = (count: number, columns: number): Matrix => {
  const drawn = matrixFrom(count, columns, () => random.normal());
  const scaled = scaleColumns(
    drawn,
    Float64Array.from({ length: columns }, (_, j) => 2 ** -j),
  );
  return matrix(
    count,
    columns,
    scaled.data.map((v, i) => v + (i % columns)),
  );
};

/** The same of all rows at once. */
function atOnce(rows: Matrix) {
  const { rows: n, columns } = rows;
  const mean = Float64Array.from({ length: columns }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += rows.data[i * columns + j] as number;
    return sum / n;
  });
  return svd(
    matrix(
      n,
      columns,
      rows.data.map((v, i) => v - (mean[i % columns] as number)),
    ),
  );
}

async function inBatches(rows: Matrix, batch: number, components: number): Promise<IncrementalPca> {
  let found: IncrementalPca | null = null;
  for (let from = 0; from < rows.rows; from += batch)
    found = await extendPca(found, rowRange(rows, from, Math.min(rows.rows, from + batch)), components);
  return found!;
}

describe("extendPca", () => {
  test.each([6, 11, 40])("with all components batches of %i rows give what all rows give", async (batch) => {
    const rows = rowsOf(40, 6);
    const [found, { s, vt }] = [await inBatches(rows, batch, 6), atOnce(rows)];
    const total = s.reduce((sum, v) => sum + v * v, 0);
    for (let k = 0; k < 6; k++) {
      expect(found.singularValues[k]).toBeCloseTo(s[k]!, 8);
      expect(found.explained[k]).toBeCloseTo(s[k]! ** 2 / total, 8);
      const dot = multiply(rowRange(found.components, k, k + 1), rowRange(vt, k, k + 1), { transB: true }).data[0]!;
      expect(Math.abs(dot)).toBeCloseTo(1, 8);
    }
    expect(found.count).toBe(40);
    expect([...found.mean].map(Math.round)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("a few components come near the leading ones", async () => {
    const rows = rowsOf(60, 6);
    const [found, { vt }] = [await inBatches(rows, 10, 3), atOnce(rows)];
    const overlap = multiply(found.components, rowRange(vt, 0, 3), { transB: true });
    for (let k = 0; k < 3; k++) expect(Math.abs(overlap.data[k * 4]!)).toBeGreaterThan(0.95);
  });

  test("signs are settled, so that the same component has cosine 1", async () => {
    const rows = rowsOf(30, 5);
    const found = await inBatches(rows, 30, 4);
    expect([...rowCosines(found.components, found.components)].every((v) => Math.abs(v - 1) < 1e-12)).toBe(true);
    const mirrored = matrix(
      30,
      5,
      rows.data.map((v) => -v),
    );
    const other = await inBatches(mirrored, 30, 4);
    for (const v of rowCosines(found.components, other.components)) expect(v).toBeCloseTo(1, 8);
  });

  test("rows without variance explain nothing", async () => {
    const same = matrix(8, 3, new Float64Array(24).fill(2));
    const found = await extendPca(null, same, 2);
    expect([...found.explained]).toEqual([0, 0]);
  });
});
