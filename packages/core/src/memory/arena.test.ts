import { expect, test } from "vitest";
import { createArena } from "./arena.ts";

const MB = 1 << 20;

test("counts the pages that were in use, not the regions", () => {
  const arena = createArena();
  arena.allocate(3 * MB); // its region has 4 MB
  expect(arena.touchedBytes()).toBe(3 * MB);
});

test("what is released is used again, and neighbours are joined", () => {
  const arena = createArena();
  const [a, b] = [arena.allocate(MB / 2), arena.allocate(MB / 2)];
  arena.release(a);
  arena.release(b);
  arena.allocate(MB);
  expect(arena.touchedBytes()).toBe(MB);
});

test("a free chunk that is less than twice as large is taken whole: its rest is lost", () => {
  const arena = createArena();
  const chunks = [0, 1].map(() => arena.allocate(MB / 2));
  arena.release(chunks[0]!);
  arena.allocate(0.3 * MB);
  // 0.2 MB are left beside it, but they belong to the chunk: this goes to a new region.
  arena.allocate(0.1 * MB);
  expect(arena.touchedBytes()).toBeGreaterThan(1.09 * MB);
});

test("a chunk at least twice as large is split, and its rest used", () => {
  const arena = createArena();
  const whole = arena.allocate(MB);
  arena.release(whole);
  for (let i = 0; i < 4; i++) arena.allocate(MB / 4);
  expect(arena.touchedBytes()).toBe(MB);
});
