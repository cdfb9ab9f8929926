import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRandom } from "../random/random.ts";
import { shuffle } from "./shuffle.ts";
import { splitStratified } from "./split-stratified.ts";

const rowsOf = (sizes: Record<string, number>) =>
  Object.entries(sizes).flatMap(([label, size]) =>
    Array.from({ length: size }, (_, i) => ({ label, id: `${label}${i}` })),
  );
const by = (row: { label: string }) => row.label;
const tally = (rows: { label: string }[]) => {
  const counts: Record<string, number> = {};
  for (const { label } of rows) counts[label] = (counts[label] ?? 0) + 1;
  return counts;
};

describe("splitStratified", () => {
  const rows = rowsOf({ a: 60, b: 30, c: 10 });

  test("keeps class shares, by hand", () => {
    const { train, test: held } = splitStratified(rows, { fractions: { train: 0.8, test: 0.2 }, seed: 1, by });
    expect(tally(train)).toEqual({ a: 48, b: 24, c: 8 });
    expect(tally(held)).toEqual({ a: 12, b: 6, c: 2 });
    const counted = splitStratified(rows, { counts: { train: 10, validation: 5 }, seed: 1, by });
    expect(tally(counted.train)).toEqual({ a: 6, b: 3, c: 1 });
    expect(tally(counted.validation)).toEqual({ a: 3, b: 2 }); // ideal shares 3, 1.5 and 0.5: the tie goes to the first
  });

  test("depends on the seed alone, and mixes the classes", () => {
    const options = { fractions: { train: 0.5 }, by };
    const first = splitStratified(rows, { ...options, seed: "x" });
    expect(splitStratified(rows, { ...options, seed: "x" })).toEqual(first);
    expect(splitStratified(rows, { ...options, seed: "y" }).train).not.toEqual(first.train);
    expect(new Set(first.train.slice(0, 15).map(by)).size).toBeGreaterThan(1);
  });

  test("splits that use up everything, with shares that are not exact in binary", () => {
    const { a, b, c } = splitStratified(rowsOf({ a: 7, b: 4 }), { fractions: { a: 0.7, b: 0.2, c: 0.1 }, seed: 3, by });
    expect([a.length, b.length, c.length]).toEqual([8, 2, 1]);
    const { all } = splitStratified([1, 2, 3], { fractions: { all: 1 }, seed: 3 });
    expect(all.sort()).toEqual([1, 2, 3]);
    expect(splitStratified([], { fractions: { all: 1 }, seed: 3 })).toEqual({ all: [] });
  });

  test("property: disjoint, exact in size, within two rows of the share of each class", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 3 }),
        fc.integer(),
        (sizes, weights, seed) => {
          const data = rowsOf(Object.fromEntries(sizes.map((size, i) => [`c${i}`, size])));
          const scale = Math.max(
            1,
            weights.reduce((sum, x) => sum + x, 0),
          );
          const counts = Object.fromEntries(weights.map((w, i) => [`s${i}`, Math.floor((w / scale) * data.length)]));
          const splits = splitStratified(data, { counts, seed, by });
          const ids = Object.values(splits).flatMap((split) => split.map((row) => row.id));
          expect(new Set(ids).size).toBe(ids.length);
          for (const [name, count] of Object.entries(counts)) {
            expect(splits[name]).toHaveLength(count);
            sizes.forEach((size, i) => {
              const found = splits[name]!.filter((row) => row.label === `c${i}`).length;
              expect(Math.abs(found - (count * size) / Math.max(1, data.length))).toBeLessThan(2 + 1e-9);
            });
          }
        },
      ),
    );
  });

  test.each([
    { fractions: { a: 0.8, b: 0.3 } },
    { fractions: { a: -0.1 } },
    { fractions: { a: Number.NaN } },
    { counts: { a: 101 } },
    { counts: { a: 1.5 } },
    { counts: {} },
    {},
    { counts: { a: 1 }, fractions: { a: 0.5 } },
  ])("refuses %j", (wrong) => {
    expect(() => splitStratified(rows, { ...(wrong as { counts: Record<string, number> }), seed: 1, by })).toThrow(
      expect.objectContaining({ code: "SPLIT_INVALID" }),
    );
  });
});

test("shuffle is a permutation, leaves its input alone and takes typed arrays", () => {
  const values = Int32Array.from([5, 6, 7, 8, 9]);
  const shuffled = shuffle(values, createRandom(2));
  expect([...values]).toEqual([5, 6, 7, 8, 9]);
  expect(shuffled.toSorted()).toEqual([5, 6, 7, 8, 9]);
  expect(shuffle(values, createRandom(2))).toEqual(shuffled);
});
