import { describe, expect, test } from "vitest";
import type { AttributeInput } from "../graph/attributes.ts";
import { type CheckedFunction, checkGradient, testRandom } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

type Attributes = Record<string, AttributeInput>;

const pool =
  (op: string, attributes: Attributes): CheckedFunction =>
  (g, [x]) =>
    g.op(op, [x!], attributes)[0]!;

/** Values that are far apart, in random order: no maximum changes within the step of a finite difference. */
function spread(dims: readonly number[]): { dims: readonly number[]; data: number[] } {
  const n = dims.reduce((a, b) => a * b, 1);
  const random = testRandom(5);
  const order = Array.from({ length: n }, (_, i) => ({ i, key: random() })).sort((a, b) => a.key - b.key);
  const data = new Array<number>(n);
  order.forEach(({ i }, rank) => {
    data[i] = (rank - n / 2 + 0.25) * 0.1;
  });
  return { dims, data };
}

const windows: readonly (readonly [dims: readonly number[], attributes: Attributes])[] = [
  [[2, 3, 7], { kernel_shape: [2] }],
  [[1, 2, 9], { kernel_shape: [3], strides: [2], pads: [1, 1] }],
  [[2, 2, 8], { kernel_shape: [2], strides: [3] }],
  [[1, 2, 6, 7], { kernel_shape: [2, 2], strides: [2, 2] }],
  [[2, 2, 6, 7], { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1] }],
  [[1, 1, 7, 8], { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }],
  [[1, 2, 7, 6], { kernel_shape: [2, 3], strides: [3, 2], pads: [1, 1, 1, 1], ceil_mode: 1 }],
  [[1, 2, 4, 5, 4], { kernel_shape: [2, 3, 2], strides: [2, 1, 1], pads: [0, 1, 1, 0, 1, 1] }],
  [[1, 1, 7, 6], { kernel_shape: [3, 2], strides: [2, 2], auto_pad: "SAME_UPPER" }],
  [[1, 1, 7, 6], { kernel_shape: [2, 3], strides: [1, 2], auto_pad: "SAME_LOWER" }],
  [[1, 1, 7, 6], { kernel_shape: [3, 2], strides: [2, 2], auto_pad: "VALID" }],
];
const dilated: readonly (readonly [dims: readonly number[], attributes: Attributes])[] = [
  [[1, 2, 9], { kernel_shape: [3], dilations: [2], strides: [2], pads: [1, 2] }],
  [[1, 1, 7, 8], { kernel_shape: [2, 3], dilations: [3, 2] }],
];

describe("MaxPool", () => {
  test.each([...windows, ...dilated])("%j %j", async (dims, attributes) => {
    await checkGradient(pool("MaxPool", attributes), [spread(dims)]);
    await checkGradient(pool("MaxPool", attributes), [spread(dims)], { opset: 12 });
  });
  test("column-major indices change nothing", () =>
    checkGradient(pool("MaxPool", { kernel_shape: [3, 3], storage_order: 1 }), [spread([1, 2, 5, 6])]));
  test("the first of equals wins, also among padded windows", async () => {
    const f = pool("MaxPool", { kernel_shape: [3], pads: [1, 1], strides: [2] });
    const x = { dims: [1, 1, 5], data: [1, 1, 0, 0, 0] };
    expect(await gradientAt(f, [x], [1, 10, 100])).toEqual([[1, 10, 0, 100, 0]]);
    expect(await gradientAt(f, [x], [1, 10, 100], 13)).toEqual([[1, 10, 0, 100, 0]]);
  });
});

describe("AveragePool", () => {
  test.each([...windows, ...dilated])("%j %j", async (dims, attributes) => {
    const { dilations, ...plain } = attributes;
    const opset = dilations ? 21 : 11;
    await checkGradient(pool("AveragePool", attributes), [{ dims }]);
    await checkGradient(pool("AveragePool", dilations ? attributes : { ...plain, count_include_pad: 1 }), [{ dims }], {
      opset,
    });
  });
  test("padding counted or not: by hand", async () => {
    const x = { dims: [1, 1, 3], data: [0, 0, 0] };
    const attributes = { kernel_shape: [2], strides: [2], pads: [1, 0] };
    expect(await gradientAt(pool("AveragePool", attributes), [x], [1, 10])).toEqual([[1, 5, 5]]);
    const counted = pool("AveragePool", { ...attributes, count_include_pad: 1 });
    expect(await gradientAt(counted, [x], [1, 10])).toEqual([[0.5, 5, 5]]);
  });
});

describe("LpPool", () => {
  test.each([...windows.filter(([, a]) => !a["ceil_mode"]), ...dilated])("%j %j", async (dims, attributes) => {
    const x = { dims, range: [0.2, 1] as const };
    await checkGradient(pool("LpPool", attributes), [x]);
    await checkGradient(pool("LpPool", { ...attributes, p: 3 }), [x]);
    await checkGradient(pool("LpPool", { ...attributes, p: 1 }), [{ dims, range: [-1, -0.2] }]);
  });
  test("rounded up", () =>
    checkGradient(pool("LpPool", { kernel_shape: [3, 2], strides: [2, 2], ceil_mode: 1 }), [{ dims: [1, 2, 6, 5] }]));
  test("windows of zeros have no gradient", async () => {
    const x = { dims: [1, 1, 4], data: [0, 0, 3, 4] };
    const f = pool("LpPool", { kernel_shape: [2], strides: [2] });
    const [dX] = await gradientAt(f, [x], [7, 5]);
    expect(dX?.map((v) => Number(v.toFixed(5)))).toEqual([0, 0, 3, 4]);
  });
});

describe("over all places", () => {
  test.each([[[2, 3, 5]], [[1, 2, 3, 4]], [[2, 1, 2, 3, 2]]])("%j", async (dims) => {
    await checkGradient(pool("GlobalAveragePool", {}), [{ dims }]);
    await checkGradient(pool("GlobalMaxPool", {}), [spread(dims)]);
    await checkGradient(pool("GlobalLpPool", {}), [{ dims }]);
    await checkGradient(pool("GlobalLpPool", { p: 3 }), [{ dims, range: [0.2, 1] }], { opset: 11 });
    await checkGradient(pool("GlobalLpPool", { p: 1 }), [{ dims, range: [-1, -0.2] }]);
  });
  test("the first of equals wins", async () => {
    const x = { dims: [1, 2, 2, 2], data: [1, 3, 3, 0, -1, -1, -1, -1] };
    expect(await gradientAt(pool("GlobalMaxPool", {}), [x], [5, 7])).toEqual([[0, 5, 0, 0, 7, 0, 0, 0]]);
  });
});
