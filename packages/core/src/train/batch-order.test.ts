import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { batchCount, batchesOf, epochOrder, groupByLength, positionOfStep } from "./batch-order.ts";

describe("epochOrder", () => {
  test("holds every sample once, repeats for equal arguments, changes with seed and epoch", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 }), fc.integer(), fc.nat(1000), (n, seed, epoch) => {
        const order = epochOrder(n, seed, epoch);
        expect([...order].sort((a, b) => a - b)).toEqual([...Array(n).keys()]);
        expect(epochOrder(n, seed, epoch)).toEqual(order);
      }),
    );
    expect(epochOrder(50, 1, 0)).not.toEqual(epochOrder(50, 1, 1));
    expect(epochOrder(50, 1, 0)).not.toEqual(epochOrder(50, 2, 0));
  });

  test("stays the same across versions: saved runs depend on it", () => {
    expect([...epochOrder(8, 42, 0)]).toEqual(RECORDED);
  });
});

const RECORDED = [7, 1, 2, 6, 5, 4, 0, 3];

describe("groupByLength", () => {
  const lengths = Array.from({ length: 2000 }, (_, i) => 4 + ((i * 37) % 57));
  const lengthOf = (sample: number): number => lengths[sample]!;
  const grouped = (epoch: number, batchSize = 16) =>
    groupByLength(epochOrder(2000, 42, epoch), lengthOf, batchSize, epoch);

  test("every sample once, a function of its arguments, another order in another epoch", () => {
    expect([...grouped(0)].sort((a, b) => a - b)).toEqual([...lengths.keys()]);
    expect(grouped(3)).toEqual(grouped(3));
    expect(grouped(0)).not.toEqual(grouped(1));
    for (const n of [0, 1, 15, 16, 17, 70]) {
      const order = groupByLength(epochOrder(n, 1, 0), lengthOf, 16, 7);
      expect([...order].sort((a, b) => a - b)).toEqual([...Array(n).keys()]);
    }
  });

  test("batches hold like lengths, in no order among themselves, and other texts in every epoch", () => {
    const longest = (batch: Int32Array): number => Math.max(...[...batch].map(lengthOf));
    const padded = (order: Int32Array): number =>
      batchesOf(order, 16).reduce((sum, batch) => sum + batch.length * longest(batch), 0);
    const real = lengths.reduce((sum, length) => sum + length, 0);
    expect(padded(epochOrder(2000, 42, 0)) / real).toBeGreaterThan(1.6);
    expect(padded(grouped(0)) / real).toBeLessThan(1.1);
    const rises = batchesOf(grouped(0), 16)
      .map(longest)
      .filter((length, i, all) => length > (all[i - 1] ?? 0));
    expect(rises.length).toBeGreaterThan(40);
    expect(rises.length).toBeLessThan(85);
    const neighbours = (epoch: number): string =>
      String([...batchesOf(grouped(epoch), 16).find((batch) => batch.includes(5))!].sort());
    expect(neighbours(0)).not.toBe(neighbours(1));
  });

  test("a last batch that is not full stays last", () => {
    const order = groupByLength(epochOrder(1001, 3, 0), lengthOf, 10, 0);
    expect(batchesOf(order, 10)).toHaveLength(101);
    expect(batchesOf(order, 10).at(-1)).toHaveLength(1);
    expect(() => groupByLength(order, lengthOf, 0, 0)).toThrow(expect.objectContaining({ code: "BATCH_SIZE_INVALID" }));
  });
});

describe("batchesOf", () => {
  test("cuts without loss; dropLast leaves out only an incomplete batch", () => {
    const order = Int32Array.of(4, 2, 0, 1, 3);
    expect(batchesOf(order, 2).map((batch) => [...batch])).toEqual([[4, 2], [0, 1], [3]]);
    expect(batchesOf(order, 2, { dropLast: true }).map((batch) => [...batch])).toEqual([
      [4, 2],
      [0, 1],
    ]);
    expect(batchesOf(order, 5, { dropLast: true })).toHaveLength(1);
    expect(batchesOf(new Int32Array(0), 3)).toEqual([]);
    for (const size of [0, -1, 1.5]) {
      expect(() => batchesOf(order, size)).toThrow(expect.objectContaining({ code: "BATCH_SIZE_INVALID" }));
    }
  });

  test("resuming at any step sees the batches of the uninterrupted run", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 9 }), fc.nat(30), (n, batchSize, step) => {
        const all = [0, 1, 2, 3].flatMap((epoch) => batchesOf(epochOrder(n, "run", epoch), batchSize));
        const target = step % all.length;
        const { epoch, batchIndex } = positionOfStep(target, n, batchSize);
        expect(batchIndex).toBeLessThan(batchCount(n, batchSize));
        expect(batchesOf(epochOrder(n, "run", epoch), batchSize)[batchIndex]).toEqual(all[target]);
      }),
    );
    expect(() => positionOfStep(0, 3, 4, { dropLast: true })).toThrow(/at least one batch an epoch/);
  });
});
