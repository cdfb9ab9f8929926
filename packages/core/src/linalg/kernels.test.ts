import { expect, test } from "vitest";
import { createRandom } from "../random/random.ts";
import { createArena } from "./arena.ts";
import { type Kernels, plainKernels } from "./kernels.ts";

const lengths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100];

/** The same numbers in an arena and in an ordinary array; odd places, so that nothing is aligned by chance. */
function twice(rows: number, width: number) {
  const random = createRandom(3);
  const plain = Float64Array.from({ length: rows * width }, () => random.normal());
  const arena = createArena(plain.length, 1);
  const data = arena.array(plain.length);
  data.set(plain);
  return { plain, data, kernels: arena.kernels };
}

test("this engine has SIMD: the loops are not the plain ones", () => {
  expect(createArena(8, 1).kernels).not.toBe(plainKernels);
});

test.each(lengths)("loops over %i numbers are those of the reference, in WebAssembly", (count) => {
  const width = count + 3;
  const run = (kernels: Kernels, data: Float64Array): number[] => [
    kernels.dot(data, 1, data, width, count),
    kernels.addScaledDot(-0.5, data, 0, data, 2 * width + 1, data, width, count),
  ];
  const { plain, data, kernels } = twice(6, width);
  const [found, expected] = [run(kernels, data), run(plainKernels, plain)];
  found.forEach((sum, i) => {
    expect(Math.abs(sum - expected[i]!)).toBeLessThan(1e-13 * (1 + count));
  });
  const change = (k: Kernels, a: Float64Array): void => {
    k.addScaled(1.5, a, 0, a, width, count);
    k.chain(0.3, a, 0, a, width, -0.7, a, 2 * width + 1, count);
    k.rotate(a, width, 3 * width + 1, count, 0.6, 0.8);
    k.rotateTwice(a, 0, 4 * width, 5 * width + 2, count, 0.8, -0.6, 0.28, 0.96);
  };
  change(kernels, data);
  change(plainKernels, plain);
  expect(data).toEqual(plain); // no sum, no other order: the same bits, and nothing beside the rows is touched
});

test("arrays of an arena are zeros, apart from each other, and of the size that was asked for", () => {
  const { array } = createArena(10, 3);
  const [a, b, c] = [array(3), array(1), array(6)];
  a.fill(1);
  c.fill(2);
  expect([...b]).toEqual([0]);
  expect([a.byteOffset % 16, b.byteOffset % 16, c.byteOffset % 16]).toEqual([0, 0, 0]);
  expect(() => array(1 << 20)).toThrow(RangeError);
});
