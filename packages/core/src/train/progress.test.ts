import { expect, test } from "vitest";
import { createProgress } from "./progress.ts";

const report = { epoch: 0.5, loss: 0.7, learningRate: 1e-4, samples: 16, tokens: 900 };

test("a steady run: exact rates and time left from the first step", () => {
  let clock = 5000;
  const next = createProgress({ totalSteps: 10, now: () => clock, residentBytes: () => 1234 });
  for (let step = 1; step <= 10; step++) {
    clock += 250;
    const event = next({ ...report, step });
    expect(event.stepsPerSecond).toBeCloseTo(4, 9);
    expect(event.samplesPerSecond).toBeCloseTo(64, 9);
    expect(event.tokensPerSecond).toBeCloseTo(3600, 9);
    expect(event.remainingMs).toBeCloseTo((10 - step) * 250, 6);
    expect(event.elapsedMs).toBe(step * 250);
    expect(event).toMatchObject({ type: "progress", step, totalSteps: 10, loss: 0.7, residentBytes: 1234 });
  }
});

test("smoothing: one slow step moves the estimate a little, a lasting change wins", () => {
  let clock = 0;
  const next = createProgress({ totalSteps: 1000, now: () => clock, residentBytes: () => null });
  const run = (from: number, count: number, ms: number) => {
    let event = next({ ...report, step: from });
    for (let step = from + 1; step < from + count; step++) {
      clock += ms;
      event = next({ ...report, step });
    }
    return event;
  };
  clock += 100;
  run(1, 60, 100);
  clock += 1000;
  expect(next({ ...report, step: 61 }).stepsPerSecond).toBeGreaterThan(6);
  clock += 200;
  expect(run(62, 150, 200).stepsPerSecond).toBeCloseTo(5, 1);
});

test("steps reported in bundles, a resumed start, and a clock that stands still", () => {
  let clock = 0;
  const next = createProgress({ totalSteps: 100, startStep: 50, now: () => clock, residentBytes: () => null });
  const still = next({ ...report, step: 51 });
  expect(still.stepsPerSecond).toBe(0);
  expect(still.remainingMs).toBe(0);
  clock = 1000;
  const bundle = next({ ...report, step: 61 });
  // 11 steps in one second, the older one weighed by 0.95
  expect(bundle.stepsPerSecond).toBeCloseTo(10 + 0.95, 6);
  expect(bundle.remainingMs).toBeCloseTo((39 * 1000) / 10.95, 3);
});

test("defaults: real clock and memory; the event is plain data", () => {
  const event = createProgress({ totalSteps: 2 })({ ...report, step: 1, gradientNorm: 0.3 });
  expect(event.residentBytes).toBeGreaterThan(1e6);
  expect(event.elapsedMs).toBeGreaterThanOrEqual(0);
  expect(structuredClone(event)).toEqual(event);
  expect(event.gradientNorm).toBe(0.3);
  expect("gradientNorm" in createProgress({ totalSteps: 2 })({ ...report, step: 1 })).toBe(false);
});
