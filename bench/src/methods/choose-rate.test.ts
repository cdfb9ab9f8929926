import { expect, test } from "vitest";
import { chooseRate } from "./choose-rate.ts";

/** Scores with one peak; the rates that were asked for. */
async function search(peak: number): Promise<{ chosen: number | null; tried: number[] }> {
  const tried: number[] = [];
  const chosen = await chooseRate(async (rate) => {
    tried.push(rate);
    return rate > 100 * peak ? null : -Math.abs(Math.log(rate / peak));
  });
  return { chosen, tried };
}

test("decades, then the half decade between the best and its better neighbour", async () => {
  expect(await search(0.012)).toEqual({ chosen: 0.01, tried: [1e-3, 1e-2, 1e-1, 3e-2] });
  expect(await search(0.005)).toEqual({ chosen: 3e-3, tried: [1e-3, 1e-2, 1e-1, 3e-3] });
  expect((await search(0.025)).chosen).toBe(0.03);
});

test("further decades while the best is at an end", async () => {
  expect(await search(5e-5)).toEqual({ chosen: 3e-5, tried: [1e-3, 1e-2, 1e-1, 1e-4, 1e-5, 3e-5] });
  expect((await search(0.3)).chosen).toBe(0.3);
  expect((await search(1e-8)).chosen).toBe(1e-6);
});

test("on level ground the search does not go on", async () => {
  const tried: number[] = [];
  await chooseRate(async (rate) => {
    tried.push(rate);
    return 0.5;
  });
  expect(tried).toEqual([1e-3, 1e-2, 1e-1, 3e-3]);
  expect(await chooseRate(async () => 0.5, [1e-2])).toBe(1e-2);
});

test("of equal scores the lower rate wins, and a method that always diverges has none", async () => {
  expect(await chooseRate(async (rate) => (rate === 3e-3 || rate === 1e-2 ? 0.5 : 0.4))).toBe(3e-3);
  expect(await chooseRate(async () => null)).toBeNull();
});
