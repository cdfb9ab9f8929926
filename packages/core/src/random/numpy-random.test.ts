import { expect, test } from "vitest";
import { numpyRandom } from "./numpy-random.ts";

/** Numbers of NumPy 2.4. */
const sum = (values: Int32Array): number => values.reduce((a, b) => a + b, 0);

test("raw bits, also of a seed beyond 32 bits", () => {
  const first = (seed: number): string[] => {
    const random = numpyRandom(seed);
    return [random.uint64(), random.uint64(), random.uint64()].map((bits) => bits.toString(16));
  };
  expect(first(42)).toEqual(["c621fbcd16d92688", "705a5661a791ffc1", "dbcd12c26eda1624"]);
  expect(first(2 ** 40 + 7)).toEqual(["d46e9e2034de21aa", "415badc99c087675", "275ed40f045acb84"]);
});

test("distinct integers: a few, and many of a large population", () => {
  const random = numpyRandom(42);
  expect([...random.choice(10, 4)]).toEqual([4, 0, 5, 6]);
  expect([...random.choice(100, 7)]).toEqual([19, 51, 76, 65, 9, 95, 72]);
  const many = numpyRandom(3).choice(20_000, 500);
  expect([...many.slice(0, 5), ...many.slice(-3)]).toEqual([12716, 15203, 6886, 19009, 13047, 3588, 1712, 16230]);
  expect(sum(many)).toBe(4_954_475);
  const few = numpyRandom(0).choice(20_000, 300);
  expect([...few.slice(0, 5), ...few.slice(-3)]).toEqual([16029, 5439, 12780, 16486, 13605, 16703, 10070, 436]);
  expect(sum(few)).toBe(3_151_750);
});

test("shuffle", () => {
  const values = Int32Array.from({ length: 12 }, (_, i) => i);
  numpyRandom(7).shuffle(values);
  expect([...values]).toEqual([4, 6, 10, 0, 1, 3, 8, 7, 2, 5, 9, 11]);
});

test("wrong seeds and sizes are refused", () => {
  for (const seed of [-1, 0.5, 2 ** 60]) {
    expect(() => numpyRandom(seed)).toThrow(expect.objectContaining({ code: "SEED_INVALID" }));
  }
  expect(() => numpyRandom(1).choice(3, 4)).toThrow(expect.objectContaining({ code: "RANDOM_RANGE" }));
});
