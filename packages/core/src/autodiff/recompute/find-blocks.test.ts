import { expect, test } from "vitest";
import { findBlocks } from "./find-blocks.ts";
import type { ForwardValue } from "./forward-values.ts";

/** Layers of four nodes: a hidden state of 1 MB, two saved values of `wide` bytes each, the next hidden state. */
function chain(layers: number, wide: number): ForwardValue[] {
  const values: ForwardValue[] = [];
  const add = (made: number, lastRead: number, bytes: number, saved: boolean): void => {
    values.push({ name: `v${values.length}`, made, lastRead, bytes, saved, kept: false });
  };
  add(0, 1, 1e6, true);
  for (let i = 0; i < layers; i++) {
    const first = 4 * i + 1;
    add(first, first + 1, wide, true);
    add(first + 1, first + 2, wide, true);
    add(first + 2, first + 3, wide, false);
    add(first + 3, first + 4, 1e6, true);
  }
  return values;
}

test("cuts a chain where one hidden state crosses", () => {
  const ends = findBlocks(4 * 6 + 2, chain(6, 20e6));
  expect(ends.at(-1)).toBe(26);
  expect(ends.length).toBeGreaterThanOrEqual(5);
  for (const end of ends.slice(0, -1)) expect(end % 4).toBe(1);
});

test("one block where nothing is saved", () => {
  expect(
    findBlocks(
      4 * 2 + 2,
      chain(2, 20e6).map((value) => ({ ...value, saved: false })),
    ),
  ).toEqual([10]);
});

test("a value that every layer reads counts once", () => {
  const mask: ForwardValue = { name: "mask", made: 0, lastRead: 24, bytes: 5e6, saved: false, kept: false };
  const ends = findBlocks(4 * 6 + 2, [...chain(6, 20e6), mask]);
  expect(ends.length).toBeGreaterThanOrEqual(5);
});
