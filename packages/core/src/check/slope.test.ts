import { expect, test } from "vitest";
import { slopeOf } from "./slope.ts";

test("a smooth loss has its derivative", async () => {
  const { slope, noise } = await slopeOf(async (t) => Math.exp(2 * t) + 3 * t);
  expect(slope).toBeCloseTo(5, 5);
  expect(noise).toBeLessThan(1e-2);
});

test("a kink that all wide differences span does not count as the slope", async () => {
  // The slope is 1 here and 1.5 from 1e-4 on: differences of the wider steps are 1.25 less a little, all alike.
  const { slope, noise } = await slopeOf(async (t) => t + 0.5 * Math.max(0, t - 1e-4));
  expect(Math.abs(slope - 1)).toBeLessThan(2 * noise + 1e-6);
  expect(slope).toBeCloseTo(1, 4);
});

test("at a kink itself, it is not to be trusted", async () => {
  const { slope, noise } = await slopeOf(async (t) => t + Math.abs(t));
  expect(noise / slope).toBeGreaterThan(0.1);
});
