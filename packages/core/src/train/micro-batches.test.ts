import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planMicroBatches } from "./micro-batches.ts";

const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 60 });
const optionsArbitrary = fc.record(
  {
    maxTokens: fc.integer({ min: 1, max: 1024 }),
    maxSamples: fc.integer({ min: 1, max: 20 }),
    padToMultipleOf: fc.integer({ min: 1, max: 16 }),
    runCost: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(Number.POSITIVE_INFINITY)),
  },
  { requiredKeys: [] },
);

/** Cost of one cut of sorted lengths: bit i of `cuts` says that a run ends after sample i. */
function costOfCuts(sorted: readonly number[], cuts: number, maxTokens: number, runCost: number): number {
  let [total, start] = [0, 0];
  for (let end = 1; end <= sorted.length; end++) {
    if (end < sorted.length && ((cuts >> (end - 1)) & 1) === 0) continue;
    const [samples, tokens] = [end - start, (end - start) * sorted[start]!];
    total += samples > 1 && tokens > maxTokens ? Number.POSITIVE_INFINITY : tokens + runCost;
    start = end;
  }
  return total;
}

describe("planMicroBatches", () => {
  test("properties: each sample once, bounds kept, longest first, counts right", () => {
    fc.assert(
      fc.property(lengthsArbitrary, optionsArbitrary, (lengths, options) => {
        const { maxTokens = 512, maxSamples = Infinity, padToMultipleOf = 1 } = options;
        const plan = planMicroBatches(lengths, options);
        const samples = plan.runs.flatMap((run) => [...run]);
        expect([...samples].sort((a, b) => a - b)).toEqual([...lengths.keys()]);
        let padded = 0;
        plan.runs.forEach((run, i) => {
          const runLength = plan.runLengths[i]!;
          const longest = Math.max(...[...run].map((sample) => lengths[sample]!));
          expect(runLength).toBeGreaterThanOrEqual(longest);
          expect(runLength - longest).toBeLessThan(padToMultipleOf);
          expect(runLength % padToMultipleOf).toBe(0);
          expect(run.length).toBeLessThanOrEqual(maxSamples);
          if (run.length > 1) expect(run.length * runLength).toBeLessThanOrEqual(maxTokens);
          padded += run.length * runLength;
        });
        const sorted = samples.map((sample) => lengths[sample]!);
        for (let i = 1; i < sorted.length; i++) expect(sorted[i - 1]!).toBeGreaterThanOrEqual(sorted[i]!);
        expect(plan.paddedTokens).toBe(padded);
        expect(plan.realTokens).toBe(lengths.reduce((sum, length) => sum + length, 0));
        expect(plan.paddingShare).toBeCloseTo(padded === 0 ? 0 : (padded - plan.realTokens) / padded, 12);
      }),
    );
  });

  test("property: no other cut of the sorted samples costs less", () => {
    const few = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(
        few,
        fc.integer({ min: 20, max: 300 }),
        fc.integer({ min: 1, max: 90 }),
        (lengths, maxTokens, runCost) => {
          const plan = planMicroBatches(lengths, { maxTokens, runCost });
          const sorted = [...lengths].sort((a, b) => b - a);
          const costs = Array.from({ length: 2 ** (sorted.length - 1) }, (_, cuts) =>
            costOfCuts(sorted, cuts, maxTokens, runCost),
          );
          expect(plan.paddedTokens + plan.runs.length * runCost).toBe(Math.min(...costs));
        },
      ),
    );
  });

  test("a run costs: nothing is cut for less, and a batch stays whole at any price", () => {
    const sizes = (runCost: number): number[] =>
      planMicroBatches([40, 40, 10, 10], { runCost }).runs.map(({ length }) => length);
    expect(sizes(59)).toEqual([2, 2]);
    expect(sizes(60)).toEqual([4]);
    const lengths = Array.from({ length: 5000 }, (_, i) => 1 + (i % 4000));
    const whole = { maxTokens: Number.MAX_SAFE_INTEGER, runCost: Number.POSITIVE_INFINITY };
    expect(planMicroBatches(lengths, whole).runs).toHaveLength(1);
  });

  test("the documented example", () => {
    const plan = planMicroBatches([5, 128, 120, 7], { maxTokens: 256 });
    expect(plan.runs.map((run) => [...run])).toEqual([
      [1, 2],
      [3, 0],
    ]);
    expect(plan).toMatchObject({ runLengths: [128, 7], paddedTokens: 270, realTokens: 260 });
    expect(plan.paddingShare).toBeCloseTo(0.037, 3);
  });

  test("a sample above the bound runs alone; equal lengths keep their order", () => {
    expect(planMicroBatches([600, 10]).runs.map((run) => [...run])).toEqual([[0], [1]]);
    expect(planMicroBatches([8, 8, 8, 8]).runs.map((run) => [...run])).toEqual([[0, 1, 2, 3]]);
    expect(planMicroBatches([]).runs).toEqual([]);
  });

  test("cutting saves padding against one run of the whole batch", () => {
    const lengths = Array.from({ length: 64 }, (_, i) => 4 + ((i * 37) % 125));
    const whole = planMicroBatches(lengths, { maxTokens: 1e9, runCost: Number.POSITIVE_INFINITY });
    expect(whole.runs).toHaveLength(1);
    expect(whole.paddingShare).toBeGreaterThan(0.4);
    expect(planMicroBatches(lengths).paddingShare).toBeLessThan(0.1);
  });

  test("impossible input is refused with its place", () => {
    expect(() => planMicroBatches([3, 0])).toThrow(/received 0 at sample 1/);
    expect(() => planMicroBatches([2.5])).toThrow(expect.objectContaining({ code: "MICRO_BATCH_INVALID" }));
    expect(() => planMicroBatches([3], { maxTokens: 0 })).toThrow(/maxTokens, received 0/);
    expect(() => planMicroBatches([3], { maxSamples: Number.NaN })).toThrow(/maxSamples, received NaN/);
  });
});
