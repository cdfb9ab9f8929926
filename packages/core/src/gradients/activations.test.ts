import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { float } from "../graph/attributes.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import type { UnaryCase } from "../testing/check-unary.ts";
import { applyUnary, caseName, checkUnary } from "../testing/check-unary.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const microsoft = "com.microsoft";
/** ONNX Runtime refuses a scalar here. */
const vectors = [[6], [7, 5], [2, 3, 4]];
const cases: UnaryCase[] = [
  { op: "Gelu" },
  { op: "Gelu", opset: 20, attributes: { approximate: "tanh" } },
  { op: "Gelu", domain: microsoft, opset: 17 },
  { op: "FastGelu", domain: microsoft, shapes: vectors },
  { op: "QuickGelu", domain: microsoft },
  { op: "QuickGelu", domain: microsoft, attributes: { alpha: float(0.6) } },
  { op: "Swish", opset: 24 },
  { op: "Swish", opset: 24, attributes: { alpha: float(0.6) } },
  { op: "Softplus" },
  { op: "Softsign", kinks: [0] },
  { op: "Mish" },
  { op: "Mish", opset: 18, range: [-8, 8] },
];

/** Derivatives in double precision, by central differences of the definition. */
const slope = (f: (x: number) => number, x: number): number => (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;

describe("activations", () => {
  test.each(cases.map((c) => [caseName(c), c] as const))("%s", (_, unary) => checkUnary(unary));

  test.each(["BiasGelu", "FastGelu"])("%s with a bias", async (op) => {
    const f: Parameters<typeof checkGradient>[0] = (g, inputs) => g.op(op, inputs, {}, { domain: microsoft })[0]!;
    await checkGradient(f, [{ dims: [7, 5], range: [-2, 2] }, { dims: [5] }]);
    await checkGradient(f, [
      { dims: [2, 3, 4], range: [-2, 2] },
      { dims: [4], frozen: true },
    ]);
    await checkGradient(f, [{ dims: [2, 3], frozen: true }, { dims: [3] }]);
  });

  test("far from 0 the slopes stay exact and finite", async () => {
    const points = [-30, -12, -6, 6, 12, 30];
    const definitions: [UnaryCase, (x: number) => number][] = [
      [{ op: "Mish" }, (x) => x * Math.tanh(Math.log1p(Math.exp(x)))],
      [{ op: "QuickGelu", domain: microsoft }, (x) => x / (1 + Math.exp(-1.702 * x))],
      [
        { op: "FastGelu", domain: microsoft, shapes: vectors },
        (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
      ],
      [{ op: "Softplus" }, (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))],
    ];
    for (const [unary, f] of definitions) {
      const [dX] = await gradientAt(applyUnary(unary), [points]);
      points.forEach((x, i) => {
        expect(dX?.[i], `${unary.op} at ${x}`).toBeCloseTo(slope(f, x), 5);
      });
    }
    const [dGelu] = await gradientAt(applyUnary({ op: "Gelu" }), [[-30, 30]]);
    expect(dGelu).toEqual([0, 1]);
  });
});

test.each([
  ["Gelu", ""],
  ["FastGelu", microsoft],
  ["Mish", ""],
  ["Tanh", ""],
  ["Softplus", ""],
])("%s can be differentiated twice", (op, domain) =>
  checkGradient(
    (g, [x]) => {
      const sum = g.reduceSum(g.op(op, [x!], {}, { domain })[0]!, [0, 1], false);
      return differentiate(g, [{ value: sum }], [x!]);
    },
    [{ dims: [2, 3], range: [-2, 2] }],
  ),
);
