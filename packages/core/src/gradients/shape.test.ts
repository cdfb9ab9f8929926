import { describe, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";

/** A non-linear step behind the operator under test, so that a misplaced gradient cannot pass. */
const squared = (g: Builder, x: Value): Value => g.mul(x, x);

describe("Reshape and Flatten", () => {
  test.each([
    { dims: [2, 6], to: [3, 4] },
    { dims: [2, 3, 4], to: [-1] },
    { dims: [2, 3, 4], to: [0, -1] },
    { dims: [6], to: [1, 2, 3] },
    { dims: [1], to: [1, 1] },
  ])("$dims to $to", ({ dims, to }) =>
    checkGradient((g, [x]) => squared(g, g.op("Reshape", [x!, g.ints(to)])[0]!), [{ dims }]),
  );
  test("to a scalar", () =>
    checkGradient((g, [x]) => squared(g, g.op("Reshape", [x!, g.ints([])])[0]!), [{ dims: [1] }]));
  test("to a shape computed at run time", () =>
    checkGradient(
      (g, [x, y]) => g.mul(g.op("Reshape", [x!, g.op("Shape", [y!])[0]!])[0]!, y!),
      [{ dims: [2, 6] }, { dims: [3, 4] }],
    ));
  test.each([0, 1, 2, -1, 3])("Flatten at %i", (axis) =>
    checkGradient((g, [x]) => squared(g, g.op("Flatten", [x!], { axis })[0]!), [{ dims: [2, 3, 2] }]),
  );
});

describe("Transpose", () => {
  test.each([[[1, 0, 2]], [[2, 0, 1]], [[0, 2, 1]], [null]])("%j", (perm) =>
    checkGradient(
      (g, [x, y]) => g.mul(g.op("Transpose", [x!], perm ? { perm } : {})[0]!, y!),
      [{ dims: [2, 3, 5] }, { dims: (perm ?? [2, 1, 0]).map((p) => [2, 3, 5][p]!) }],
    ),
  );
});

describe.each([11, 13, 21])("opset %i", (opset) => {
  test.each([[[0]], [[-1]], [[0, 2]], [[-2, 0]]])("Unsqueeze %j", (axes) =>
    checkGradient((g, [x]) => squared(g, g.unsqueeze(x!, axes)), [{ dims: [3, 2] }], { opset }),
  );
  test.each([[[0]], [[-1]], [[0, -1]]])("Squeeze %j", (axes) =>
    checkGradient((g, [x]) => squared(g, g.squeeze(x!, axes)), [{ dims: [1, 3, 2, 1] }], { opset }),
  );
  test("Squeeze of all unit axes", () =>
    checkGradient((g, [x]) => squared(g, g.op("Squeeze", [x!])[0]!), [{ dims: [1, 3, 1, 2] }], {
      opset,
      symbolic: [],
    }));
  test("Split in unequal parts, one part unused", () =>
    checkGradient(
      (g, [x]) => {
        const [a, , c] = g.split(x!, [2, 1, 3], -1);
        return [squared(g, a!), g.softmax(c!)];
      },
      [{ dims: [2, 6] }],
      { opset },
    ));
});

describe("Split", () => {
  test("in equal parts by default", () =>
    checkGradient(
      (g, [x]) => {
        const [a, b] = g.op("Split", [x!], { axis: 1 }, { count: 2 });
        return g.mul(a!, b!);
      },
      [{ dims: [2, 4, 3] }],
      { opset: 13 },
    ));
});

describe("Concat", () => {
  test.each([0, 1, -1])("axis %i", (axis) =>
    checkGradient(
      (g, [a, b, c]) => squared(g, g.concat([a!, b!, c!], axis)),
      [1, 3, 2].map((size) => ({ dims: [2, 2, 2].map((d, i) => (i === (axis + 3) % 3 ? size : d)) })),
      { symbolic: ["shared"] },
    ),
  );
  test("the same value twice, and a frozen part between", () =>
    checkGradient(
      (g, [a, b]) => squared(g, g.concat([a!, b!, a!], 1)),
      [{ dims: [2, 3] }, { dims: [2, 5], frozen: true }],
      {
        symbolic: ["shared"],
      },
    ));
});

describe("Slice", () => {
  test.each([
    { starts: [1], ends: [3], axes: [1] },
    { starts: [-2], ends: [100], axes: [-1] },
    { starts: [0, 1], ends: [2, -1], axes: [0, 2] },
    { starts: [0], ends: [-1], axes: [1] },
    { starts: [0], ends: [1], axes: [1], steps: [1] },
    { starts: [0], ends: [5], axes: [2], steps: [2] },
    { starts: [-1], ends: [-100], axes: [2], steps: [-1] },
    { starts: [4, 0], ends: [0, 2], axes: [2, 0], steps: [-3, 1] },
  ])("%j", ({ starts, ends, axes, steps }) =>
    checkGradient((g, [x]) => squared(g, g.slice(x!, starts, ends, axes, steps)), [{ dims: [2, 4, 5] }], {
      full: true,
    }),
  );
  test("bounds computed at run time", () =>
    checkGradient(
      (g, [x, starts, ends]) => squared(g, g.op("Slice", [x!, starts!, ends!, g.ints([1, 0])])[0]!),
      [{ dims: [3, 4] }, { dims: [2], type: "int64", data: [1, -2] }, { dims: [2], type: "int64", data: [3, 9] }],
      { symbolic: [] },
    ));
});

describe("Slice by sizes of another input", () => {
  // The last rows of a table, as many as there are tokens: T5's decoder takes its position bias so.
  const lengthOf = (g: Builder, tokens: Value): Value => g.slice(g.shapeOf(tokens), [0], [1], [0]);
  const far = 2 ** 31 - 1;
  test.each([
    { part: "[-length:]", bounds: (g: Builder, n: Value) => [g.neg(n), g.ints([far])] },
    { part: "[:-length]", bounds: (g: Builder, n: Value) => [g.ints([0]), g.neg(n)] },
    { part: "[length:]", bounds: (g: Builder, n: Value) => [n, g.ints([far])] },
    { part: "[:length]", bounds: (g: Builder, n: Value) => [g.ints([0]), n] },
  ])("$part", ({ bounds }) =>
    checkGradient(
      (g, [x, tokens]) => squared(g, g.op("Slice", [x!, ...bounds(g, lengthOf(g, tokens!)), g.ints([1])])[0]!),
      [{ dims: [2, 7, 3] }, { dims: [3], type: "int64", data: [0, 0, 0] }],
      { full: true },
    ),
  );
});

describe("Expand", () => {
  test.each([
    { dims: [3, 1], to: [2, 3, 4] },
    { dims: [1], to: [5] },
    { dims: [2, 3], to: [1, 3] },
    { dims: [], to: [2, 2] },
  ])("$dims to $to", ({ dims, to }) =>
    checkGradient((g, [x]) => squared(g, g.op("Expand", [x!, g.ints(to)])[0]!), [{ dims }]),
  );
});

describe("Tile", () => {
  test.each([
    { dims: [2, 3], repeats: [2, 1] },
    { dims: [3], repeats: [4] },
    { dims: [2, 1, 2], repeats: [1, 3, 2] },
  ])("$dims by $repeats", ({ dims, repeats }) =>
    checkGradient(
      (g, [x, w]) => g.mul(g.op("Tile", [x!, g.ints(repeats)])[0]!, w!),
      [{ dims }, { dims: dims.map((d, i) => d * repeats[i]!) }],
    ),
  );
  test("repeats computed at run time", () =>
    checkGradient(
      (g, [x, r, w]) => g.mul(g.op("Tile", [x!, r!])[0]!, w!),
      [{ dims: [2, 3] }, { dims: [2], type: "int64", data: [2, 3] }, { dims: [4, 9] }],
      { symbolic: [] },
    ));
});

describe("Pad", () => {
  test.each([
    { dims: [2, 3], pads: [1, 0, 2, 1] },
    { dims: [4], pads: [-1, 2] }, // negative amounts crop
    { dims: [3, 4], pads: [0, -1, 1, -2] },
  ])("constant, $dims by $pads, value trained", ({ dims, pads }) =>
    checkGradient((g, [x, value]) => squared(g, g.op("Pad", [x!, g.ints(pads), value!])[0]!), [{ dims }, { dims: [] }]),
  );
  test.each(["reflect", "edge", "wrap"])("%s", async (mode) => {
    const f =
      (pads: number[], axes?: number[]) =>
      (g: Builder, [x]: Value[]) =>
        squared(g, g.op("Pad", [x!, g.ints(pads), null, axes ? g.ints(axes) : null], { mode })[0]!);
    await checkGradient(f([1, 0, 2, 2]), [{ dims: [3, 4] }], { opset: 19 });
    await checkGradient(f([2, 1], [-1]), [{ dims: [2, 3] }], { opset: 19 });
    await checkGradient(f([0, 2, 0, 3]), [{ dims: [2, 70] }], { opset: 19 });
  });
  test("amounts computed at run time, axes given", () =>
    checkGradient(
      (g, [x, pads]) => squared(g, g.op("Pad", [x!, pads!, null, g.ints([-1])])[0]!),
      [{ dims: [2, 3] }, { dims: [2], type: "int64", data: [1, 2] }],
      { symbolic: [] },
    ));
  test("opset 11", () =>
    checkGradient((g, [x]) => squared(g, g.op("Pad", [x!, g.ints([0, 1, 2, 0])])[0]!), [{ dims: [2, 3] }], {
      opset: 11,
    }));
});

describe("Trilu", () => {
  test.each([
    { upper: 1, k: null },
    { upper: 0, k: null },
    { upper: 1, k: 1 },
    { upper: 0, k: -1 },
  ])("%j", ({ upper, k }) =>
    checkGradient(
      (g, [x]) => squared(g, g.op("Trilu", [x!, k === null ? null : g.constant("int64", k)], { upper })[0]!),
      [{ dims: [2, 3, 4] }],
    ),
  );
});
