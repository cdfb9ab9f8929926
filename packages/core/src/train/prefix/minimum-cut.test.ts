import fc from "fast-check";
import { expect, test } from "vitest";
import { minimumCut, type Pipe } from "./minimum-cut.ts";

const pipe = (from: number, to: number, capacity: number): Pipe => ({ from, to, capacity });
const infinite = Number.POSITIVE_INFINITY;

test("the textbook's network", () => {
  // Cormen et al., figure 26.1: maximum flow 23.
  const pipes = [
    ...[pipe(0, 2, 16), pipe(0, 3, 13), pipe(3, 2, 4), pipe(2, 4, 12), pipe(4, 3, 9)],
    ...[pipe(3, 5, 14), pipe(5, 4, 7), pipe(4, 1, 20), pipe(5, 1, 4)],
  ];
  expect(minimumCut(6, pipes, 0, 1)).toEqual({ cost: 23, withSource: [true, false, true, true, false, true] });
});

test("of equal cuts the one nearest to the sink; without a finite one, infinite", () => {
  expect(minimumCut(4, [pipe(0, 2, 5), pipe(2, 3, 5), pipe(3, 1, 5)], 0, 1)).toEqual({
    cost: 5,
    withSource: [true, false, true, true],
  });
  expect(minimumCut(3, [pipe(0, 2, infinite), pipe(2, 1, infinite)], 0, 1).cost).toBe(infinite);
  expect(minimumCut(3, [pipe(0, 2, 1)], 0, 1)).toEqual({ cost: 0, withSource: [true, false, true] });
});

/** Cost and size of the best of all cuts. */
function bestOf(vertices: number, pipes: readonly Pipe[]): { cost: number; size: number } {
  let best = { cost: infinite, size: 0 };
  for (let bits = 0; bits < 2 ** (vertices - 2); bits++) {
    const isAbove = (v: number): boolean => v === 0 || (v > 1 && ((bits >> (v - 2)) & 1) === 1);
    const cut = pipes.filter(({ from, to }) => isAbove(from) && !isAbove(to));
    const cost = cut.reduce((sum, { capacity }) => sum + capacity, 0);
    const size = Array.from({ length: vertices }, (_, v) => isAbove(v)).filter(Boolean).length;
    if (cost < best.cost || (cost === best.cost && size > best.size)) best = { cost, size };
  }
  return best;
}

test("random networks: as good as the best of all cuts, and as large", () => {
  const vertex = fc.integer({ min: 0, max: 6 });
  const pipes = fc.array(fc.record({ from: vertex, to: vertex, capacity: fc.integer({ min: 0, max: 5 }) }), {
    maxLength: 18,
  });
  fc.assert(
    fc.property(pipes, (list) => {
      const { cost, withSource } = minimumCut(7, list, 0, 1);
      const crossing = list.filter(({ from, to }) => withSource[from] && !withSource[to]);
      expect(crossing.reduce((sum, { capacity }) => sum + capacity, 0)).toBe(cost);
      expect({ cost, size: withSource.filter(Boolean).length }).toEqual(bestOf(7, list));
    }),
    { numRuns: 200 },
  );
});
