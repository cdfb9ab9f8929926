import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { CheckedInput } from "../testing/check-gradient.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import type { UnaryCase } from "../testing/check-unary.ts";
import { applyUnary, caseName, checkUnary } from "../testing/check-unary.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const shapes = [
  { a: [2, 3], b: [2, 3] },
  { a: [5, 1, 3], b: [4, 1] }, // both sides broadcast
  { a: [3], b: [2, 7, 3] },
  { a: [], b: [3, 1] },
  { a: [1, 1], b: [7, 5] },
];

describe.each(["add", "sub", "mul", "div"] as const)("%s", (op) => {
  const range = op === "div" ? ([0.5, 2] as const) : ([-1, 1] as const);
  test.each(shapes)("$a with $b", ({ a, b }) =>
    checkGradient((g, [x, y]) => g[op](x!, y!), [{ dims: a }, { dims: b, range }]),
  );
  test("one frozen side", async () => {
    const f = (g: Builder, [x, y]: Value[]) => g[op](x!, y!);
    await checkGradient(f, [{ dims: [2, 3] }, { dims: [3], range, frozen: true }]);
    await checkGradient(f, [
      { dims: [2, 3], frozen: true },
      { dims: [3], range },
    ]);
  });
});

const many =
  (op: string, attributes = {}) =>
  (g: Builder, inputs: Value[]): Value =>
    g.op(op, inputs, attributes)[0]!;

describe.each(["Sum", "Mean"])("%s", (op) => {
  test.each([
    [[{ dims: [7, 5] }]],
    [[{ dims: [2, 3] }, { dims: [3] }]],
    [[{ dims: [2, 1, 3] }, { dims: [4, 1], frozen: true }, { dims: [] }]],
  ] as [CheckedInput[]][])("%j", (inputs) => checkGradient(many(op), inputs));
});

describe("Mod", () => {
  const inputs: CheckedInput[] = [
    { dims: [2, 3], data: [5.3, -5.3, 0.4, 7.2, -1.3, 2.7] },
    { dims: [3], data: [2, 1.5, 1] },
  ];
  test("of both sides", () => checkGradient(many("Mod", { fmod: 1 }), inputs));
  test("frozen divisor", () => checkGradient(many("Mod", { fmod: 1 }), [inputs[0]!, { ...inputs[1]!, frozen: true }]));
});

const cases: UnaryCase[] = [
  { op: "Neg" },
  { op: "Abs", kinks: [0] },
  { op: "Abs", kinks: [0], opset: 11 },
  { op: "Sqrt", range: [0.3, 3] },
  { op: "Reciprocal", range: [0.4, 2] },
];

describe("unary arithmetic", () => {
  test.each(cases.map((c) => [caseName(c), c] as const))("%s", (_, unary) => checkUnary(unary));

  test("edges as in PyTorch", async () => {
    const [dAbs] = await gradientAt(applyUnary({ op: "Abs" }), [[0, 1e-30, -1e-30, Infinity, -Infinity]]);
    expect(dAbs).toEqual([0, 1, -1, 1, -1]);
    const [dRoot] = await gradientAt(applyUnary({ op: "Sqrt" }), [[0, 0, 4]], [1, 0, 1]);
    expect(dRoot).toEqual([Infinity, NaN, 0.25]);
    const [dA, dB] = await gradientAt(
      (g, [a, b]) => g.div(a!, b!),
      [
        [1, 0, 1],
        [0, 0, Infinity],
      ],
    );
    expect(dA).toEqual([Infinity, Infinity, 0]);
    expect(dB).toEqual([-Infinity, NaN, -0]);
  });
});

test("the check itself finds a wrong gradient", async () => {
  const wrong = checkGradient((g, [x]) => g.add(x!, g.stopGradient(g.mul(x!, x!))), [{ dims: [3] }]);
  await expect(wrong).rejects.toMatchObject({ code: "GRADIENT_CHECK" });
});
