import { describe, expect, test } from "vitest";
import { type CheckedFunction, checkGradient, testRandom } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

type Options = Readonly<Record<string, string | number>>;

const sample =
  (attributes: Options): CheckedFunction =>
  (g, v) =>
    g.op("GridSample", v, attributes)[0]!;

/**
 * Places for pixels of the given sizes, inside and up to 1.7 times outside, that keep a fifth of a pixel away from pixels
 * and from the middles between them, where the result has kinks or jumps.
 */
function placesFor(sizes: readonly number[], count: number, aligned: boolean): number[] {
  const random = testRandom(11);
  const numbers: number[] = [];
  for (let i = 0; i < count; i++) {
    for (const size of [...sizes].reverse()) {
      const half = Math.floor((1.7 * size * (2 * random() - 1) + size) * 2) / 2; // a multiple of 1/2
      const pixel = half + 0.1 + 0.3 * random();
      numbers.push(aligned ? (2 * pixel) / (size - 1) - 1 : (2 * pixel + 1) / size - 1);
    }
  }
  return numbers;
}

describe.each(["zeros", "border", "reflection"])("%s", (padding_mode) => {
  describe.each([0, 1])("align_corners %i", (align_corners) => {
    const attributes = { padding_mode, align_corners };
    const inputs = (dims: readonly number[], places: readonly number[]) => {
      const [batch = 1, , ...sizes] = dims;
      const count = batch * places.reduce((a, b) => a * b, 1);
      const data = placesFor(sizes, count, align_corners === 1);
      return [{ dims }, { dims: [batch, ...places, sizes.length], data }];
    };
    const fine = { step: 2e-3, tolerance: 5e-3 };
    const once = { ...fine, symbolic: ["distinct"] } as const;
    test("linear, image and grid", async () => {
      const f = sample({ ...attributes, mode: "bilinear" });
      const [x, grid] = inputs([2, 3, 4, 5], [3, 2]);
      await checkGradient(f, [x!, grid!], { ...fine, opset: 16 });
      await checkGradient(f, [x!, { ...grid!, frozen: true }], { ...once, opset: 16 });
      await checkGradient(f, [{ ...x!, frozen: true }, grid!], { ...once, opset: 16 });
    });
    test("nearest: to the image only", async () => {
      const f = sample({ ...attributes, mode: "nearest" });
      await checkGradient(f, inputs([2, 2, 3, 4], [2, 5]), { ...once, opset: 16 });
    });
    test("cubic", () => checkGradient(sample({ ...attributes, mode: "cubic" }), inputs([1, 2, 5, 4], [3, 3]), once));
    test("three axes", async () => {
      await checkGradient(sample({ ...attributes, mode: "linear" }), inputs([1, 2, 3, 4, 2], [2, 2, 1]), once);
      await checkGradient(sample({ ...attributes, mode: "nearest" }), inputs([1, 2, 3, 2, 3], [2, 1, 3]), once);
    });
  });
});

test("by hand: the middle of four pixels", async () => {
  const f = sample({ mode: "linear", align_corners: 1 });
  const image = { dims: [1, 1, 2, 2], data: [1, 2, 3, 5] };
  const [dX, dGrid] = await gradientAt(f, [image, { dims: [1, 1, 1, 2], data: [0, 0] }], [4]);
  expect(dX).toEqual([1, 1, 1, 1]);
  // dY/dx = ((2 - 1) + (5 - 3)) / 2 per pixel, and half a pixel for one of x.
  expect(dGrid).toEqual([4 * 1.5 * 0.5, 4 * 2.5 * 0.5]);
});
