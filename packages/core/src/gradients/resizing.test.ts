import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type AttributeInput, float } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { type CheckedFunction, checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

type Attributes = Record<string, AttributeInput>;

interface Request {
  readonly scales?: readonly number[];
  readonly sizes?: readonly number[];
  readonly roi?: readonly number[];
}

const resize =
  (attributes: Attributes, { scales, sizes, roi }: Request): CheckedFunction =>
  (g, [x]) => {
    const floats = (list: readonly number[] = []) => g.constant("float32", list);
    return g.op("Resize", [x!, floats(roi), floats(scales), sizes ? g.ints(sizes) : null], attributes)[0]!;
  };

const coordinates = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
  "tf_crop_and_resize",
];
const roi = [0, 0, 0.1, -0.3, 1, 1, 0.8, 1.4];

describe.each(coordinates)("%s", (mode) => {
  const crop = mode === "tf_crop_and_resize" ? { roi } : {};
  const rest = { coordinate_transformation_mode: mode };
  test.each(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])("nearest, %s", async (nearest_mode) => {
    const attributes = { ...rest, nearest_mode };
    await checkGradient(resize(attributes, { scales: [1, 1, 1.7, 0.6], ...crop }), [{ dims: [2, 2, 3, 5] }]);
    await checkGradient(resize(attributes, { scales: [1, 1, 2, 3], ...crop }), [{ dims: [1, 2, 3, 2] }]);
    await checkGradient(resize(attributes, { sizes: [1, 2, 6, 2], ...crop }), [{ dims: [1, 2, 3, 4] }], { opset: 13 });
  });
  test("linear", async () => {
    const attributes = { ...rest, mode: "linear", extrapolation_value: float(5) };
    await checkGradient(resize(attributes, { scales: [1, 1, 1.7, 0.6], ...crop }), [{ dims: [2, 2, 3, 5] }]);
    await checkGradient(resize(attributes, { sizes: [1, 2, 6, 2], ...crop }), [{ dims: [1, 2, 3, 5] }], { opset: 11 });
    await checkGradient(resize(attributes, { sizes: [1, 1, 4, 1], ...crop }), [{ dims: [1, 1, 4, 3] }]);
  });
  test("cubic", async () => {
    const attributes = { ...rest, mode: "cubic", cubic_coeff_a: float(-0.5) };
    await checkGradient(resize(attributes, { scales: [1, 1, 1.7, 0.6], ...crop }), [{ dims: [1, 2, 3, 5] }]);
    await checkGradient(resize({ ...attributes, exclude_outside: 1 }, { sizes: [1, 1, 7, 3], ...crop }), [
      { dims: [1, 1, 4, 5] },
    ]);
  });
});

test("tf_half_pixel_for_nn, which opset 13 left out", () => {
  const attributes = { coordinate_transformation_mode: "tf_half_pixel_for_nn", nearest_mode: "floor" };
  return checkGradient(resize(attributes, { scales: [1, 1, 1.7, 0.6] }), [{ dims: [1, 2, 3, 5] }], { opset: 11 });
});

describe("other ranks and options", () => {
  test("three spatial axes, two, and one", async () => {
    await checkGradient(resize({ mode: "linear" }, { scales: [1, 1, 2, 1.5, 0.5] }), [{ dims: [1, 2, 2, 3, 4] }]);
    await checkGradient(resize({ mode: "nearest" }, { scales: [1, 1, 2, 1, 2] }), [{ dims: [1, 2, 2, 3, 2] }]);
    await checkGradient(resize({ mode: "nearest" }, { scales: [1, 1, 2.5] }), [{ dims: [2, 2, 5] }]);
    await checkGradient(resize({ mode: "linear" }, { sizes: [5, 4] }), [{ dims: [3, 7] }]);
  });
  test("channels last", () =>
    checkGradient(resize({ mode: "linear" }, { scales: [1, 2, 1.5, 1] }), [{ dims: [1, 3, 4, 2] }]));
  test("only some axes", async () => {
    const axes = [3, 2];
    await checkGradient(resize({ mode: "linear", axes }, { sizes: [5, 2] }), [{ dims: [1, 2, 3, 4] }]);
    await checkGradient(resize({ mode: "nearest", axes: [-2] }, { scales: [2] }), [{ dims: [1, 2, 3, 4] }]);
  });
  test.each(["linear", "cubic"])("antialias, %s", (mode) =>
    checkGradient(resize({ mode, antialias: 1 }, { sizes: [1, 2, 3, 4] }), [{ dims: [1, 2, 7, 9] }], { opset: 18 }),
  );
  test.each([10, 11])("opset %i", (opset) =>
    checkGradient(
      (g, [x]) => {
        const scales = g.constant("float32", [1, 1, 2, 1.5]);
        return g.op("Resize", opset === 10 ? [x!, scales] : [x!, g.constant("float32", [], [0]), scales])[0]!;
      },
      [{ dims: [1, 2, 3, 4] }],
      { opset },
    ),
  );
  test.each(["nearest", "linear"])("Upsample, %s", (mode) =>
    checkGradient(
      (g, [x]) => g.op("Upsample", [x!, g.constant("float32", [1, 1, 2, 1.5])], { mode })[0]!,
      [{ dims: [1, 2, 3, 4] }],
      { opset: 9 },
    ),
  );
  test("scales and sizes computed at run time", async () => {
    const f = (input: 2 | 3): CheckedFunction => {
      return (g, [x, request]) => {
        const inputs = input === 2 ? [x!, null, request!] : [x!, null, null, request!];
        return g.op("Resize", inputs, { mode: "linear" })[0]!;
      };
    };
    const x = { dims: [1, 2, 3, 5] };
    await checkGradient(f(2), [x, { dims: [4], data: [1, 1, 1.7, 0.6], frozen: true }], { symbolic: [] });
    await checkGradient(f(3), [x, { dims: [4], data: [1, 2, 5, 4], type: "int64" }], { symbolic: [] });
  });
  test("the size of another value, as in feature pyramids", () =>
    checkGradient(
      (g, [x, y]) => {
        const sizes = g.concat([g.slice(g.shapeOf(x!), [0], [2], [0]), g.slice(g.shapeOf(y!), [2], [4], [0])], 0);
        return g.add(g.op("Resize", [x!, null, null, sizes], { mode: "linear" })[0]!, y!);
      },
      [{ dims: [2, 2, 3, 2] }, { dims: [2, 2, 5, 4] }],
      { symbolic: ["shared"] },
    ));
});

test("whole factors become block sums, also for sizes known at run time only", async () => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["batch", 2, "h", "w"]);
  const attributes = { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" };
  const [y] = g.op("Resize", [x, null, g.constant("float32", [1, 1, 2, 2])], attributes);
  const before = g.nodes.length;
  differentiate(g, [{ value: y!, gradient: g.input("dY", "float32", y!.shape) }], [x]);
  expect(g.nodes.slice(before).map((n) => n.op)).not.toContain("EyeLike");
  const f = resize(attributes, { scales: [1, 1, 2] });
  expect(await gradientAt(f, [{ dims: [1, 1, 2], data: [0, 0] }], [1, 2, 3, 4])).toEqual([[3, 7]]);
});

test("one scale for all axes is refused by name", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [1, 1, 4, 6]);
  const [y] = g.op("Resize", [x, null, null, g.ints([8, 8])], { axes: [2, 3], keep_aspect_ratio_policy: "not_larger" });
  expect(y?.shape).toEqual([1, 1, 5, 8]);
  const dY = g.input("dY", "float32", y!.shape);
  expect(() => differentiate(g, [{ value: y!, gradient: dY }], [x])).toThrow(/keep_aspect_ratio_policy/);
});
