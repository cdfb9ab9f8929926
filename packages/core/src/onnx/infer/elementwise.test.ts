import { describe, expect, test } from "vitest";
import type { Builder } from "../../graph/builder.ts";
import { createBuilder } from "../../graph/builder.ts";
import { checkShapes, type ShapedInput } from "../../testing/check-shapes.ts";
import type { Value } from "../ir.ts";

const apply =
  (op: string, attributes: Record<string, number> = {}, domain = "", count = 1) =>
  (g: Builder, inputs: Value[]): Value[] =>
    g.op(op, inputs, attributes, { domain, count });

const unary =
  "Neg Abs Sqrt Reciprocal Exp Log Sin Cos Tan Sinh Cosh Tanh Asin Acos Atan Asinh Acosh Atanh Sigmoid Erf Relu LeakyRelu Elu Celu Selu Softplus Softsign HardSigmoid HardSwish Mish Gelu ThresholdedRelu Clip Sign Floor Ceil Round Identity IsNaN IsInf Softmax LogSoftmax Hardmax".split(
    " ",
  );
test.each(unary)("%s keeps the shape", (op) => checkShapes(apply(op), [{ dims: [2, 3, 4] }]));

test.each(["Gelu", "QuickGelu", "FastGelu"])("com.microsoft %s keeps the shape", (op) =>
  checkShapes(apply(op, {}, "com.microsoft"), [{ dims: [2, 3] }]),
);
test("com.microsoft BiasGelu", () =>
  checkShapes(apply("BiasGelu", {}, "com.microsoft"), [{ dims: [2, 3] }, { dims: [3] }]));
test("Swish", () => checkShapes(apply("Swish"), [{ dims: [2, 3] }], 24));
test("Not, BitwiseNot, Trilu, CumSum, Dropout", async () => {
  await checkShapes(apply("Not"), [{ dims: [2, 3], type: "bool" }]);
  await checkShapes(apply("BitwiseNot"), [{ dims: [2, 3], type: "int32" }]);
  await checkShapes(apply("Trilu"), [{ dims: [2, 3, 3] }]);
  await checkShapes((g, [x]) => g.cumSum(x!, 1), [{ dims: [2, 3] }]);
  await checkShapes(apply("Dropout", {}, "", 2), [{ dims: [2, 3] }]);
});

const broadcasts: [number[], number[]][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [
    [5, 1, 3],
    [4, 1],
  ],
  [[], [2, 1]],
  [[3], [2, 7, 1]],
];
const pair = (a: number[], b: number[], type: ShapedInput["type"] = "float32"): ShapedInput[] => [
  { dims: a, type },
  { dims: b, type },
];

describe.each(broadcasts)("%j with %j", (a, b) => {
  test.each("Add Sub Mul Div Pow Min Max Sum Mean".split(" "))("%s", (op) => checkShapes(apply(op), pair(a, b)));
  test("Mod", () => checkShapes(apply("Mod", { fmod: 1 }), pair(a, b)));
  test.each("Equal Greater Less GreaterOrEqual LessOrEqual".split(" "))("%s is boolean", (op) =>
    checkShapes(apply(op), pair(a, b)),
  );
  test.each(["And", "Or", "Xor"])("%s", (op) => checkShapes(apply(op), pair(a, b, "bool")));
  test("Where", () => checkShapes(apply("Where"), [{ dims: b, type: "bool" }, ...pair(a, [1])]));
});

test("three inputs, PRelu, Pow of two types", async () => {
  await checkShapes(apply("Sum"), [{ dims: [2, 1, 3] }, { dims: [4, 1] }, { dims: [] }]);
  await checkShapes(apply("PRelu"), [{ dims: [2, 3, 4] }, { dims: [3, 1] }]);
  await checkShapes(apply("Pow"), [{ dims: [2, 3] }, { dims: [3], type: "int64" }]);
});

test("casts", async () => {
  await checkShapes((g, [x]) => g.cast(x!, "int64"), [{ dims: [2, 3] }]);
  await checkShapes((g, [x]) => g.cast(x!, "bool"), [{ dims: [2, 3], type: "int64" }]);
  await checkShapes(apply("CastLike"), [{ dims: [2, 3] }, { dims: [], type: "int32" }]);
  const g = createBuilder();
  const x = g.input("x", "float32", [2]);
  expect(() => g.op("Cast", [x], { to: 8 })).toThrow(expect.objectContaining({ code: "SHAPE_INFERENCE" }));
});

test("a known integer cast to a boolean is 0 or 1", () => {
  const g = createBuilder();
  expect(g.intsOf(g.cast(g.ints([0, 2, -1]), "bool"))).toEqual([0, 1, 1]);
  const size = g.shapeOf(g.input("x", "float32", ["n"]));
  expect(g.intsOf(g.cast(size, "int32"))).toEqual(["n"]);
  expect(g.intsOf(g.cast(size, "bool"))).toBe(null);
});

test("shapes that do not broadcast are refused by name", () => {
  const g = createBuilder();
  expect(() => g.add(g.input("a", "float32", [2]), g.input("b", "float32", [3]))).toThrow(/Add ".*" with inputs/);
});

test("the check itself finds a wrong shape", async () => {
  const wrong = checkShapes((g, [x]) => ({ ...g.reduceSum(x!, [0]), shape: [2, 3] }), [{ dims: [2, 3] }]);
  await expect(wrong).rejects.toMatchObject({ code: "SHAPE_CHECK" });
});
