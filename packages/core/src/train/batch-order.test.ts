import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { batchCount, batchesOf, epochOrder, positionOfStep } from "./batch-order.ts";

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
