import { describe, expect, test } from "vitest";
import { float } from "../graph/attributes.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import type { UnaryCase } from "../testing/check-unary.ts";
import { applyUnary, caseName, checkUnary } from "../testing/check-unary.ts";
import { awayFrom, gradientAt } from "../testing/gradient-at.ts";

const cases: UnaryCase[] = [
  { op: "Relu", kinks: [0] },
  { op: "Relu", kinks: [0], opset: 11 },
  { op: "LeakyRelu", kinks: [0] },
  { op: "LeakyRelu", kinks: [0], attributes: { alpha: float(-0.3) } },
  { op: "LeakyRelu", kinks: [0], attributes: { alpha: float(2) }, opset: 11 },
  { op: "ThresholdedRelu", kinks: [1] },
  { op: "ThresholdedRelu", kinks: [-0.5], attributes: { alpha: float(-0.5) } },
  { op: "Elu", kinks: [0] },
  { op: "Elu", kinks: [0], attributes: { alpha: float(0.4) } },
  { op: "Celu", kinks: [0] },
  { op: "Celu", kinks: [0], attributes: { alpha: float(0.4) } },
  { op: "Selu", kinks: [0] },
  { op: "Selu", kinks: [0], attributes: { alpha: float(0.7), gamma: float(1.3) } },
  { op: "HardSigmoid", kinks: [-2.5, 2.5], range: [-4, 4] },
  { op: "HardSigmoid", kinks: [-1.2, 0.8], attributes: { alpha: float(0.5), beta: float(0.6) } },
  { op: "HardSwish", kinks: [-3, 3], range: [-5, 5] },
  { op: "HardSwish", kinks: [-3, 3], range: [-5, 5], opset: 14 },
];

describe("rectifiers", () => {
  test.each(cases.map((c) => [caseName(c), c] as const))("%s", (_, unary) => checkUnary(unary));

  test("the side of the kink is PyTorch's", async () => {
    const at = (unary: UnaryCase, x: number[]) => gradientAt(applyUnary(unary), [x]).then(([dX]) => dX);
    expect(await at({ op: "Relu" }, [0, -0, 1e-30, -1e-30])).toEqual([0, 0, 1, 0]);
    expect(await at({ op: "LeakyRelu", attributes: { alpha: float(0.25) } }, [0])).toEqual([0.25]);
    expect(await at({ op: "Elu", attributes: { alpha: float(0.5) } }, [0])).toEqual([0.5]);
    expect(await at({ op: "ThresholdedRelu" }, [1])).toEqual([0]);
    expect(await at({ op: "HardSwish" }, [-3, 3, -9, 9])).toEqual([0, 1, 0, 1]);
  });

  test("large and infinite inputs give no NaN", async () => {
    for (const op of ["Relu", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid"]) {
      const [dX] = await gradientAt(applyUnary({ op }), [[-3e38, 3e38, -Infinity, Infinity]]);
      expect(dX?.every(Number.isFinite), `${op}: ${dX}`).toBe(true);
    }
  });
});

test.each(["Relu", "Abs"])("%s in double precision, without the float32 shortcuts", (op) =>
  checkGradient(
    (g, [x]) => g.cast(g.op(op, [g.cast(x!, "float64")])[0]!, "float32"),
    [{ dims: [7, 5], data: awayFrom([0], 35, [-2, 2]) }],
  ),
);

describe("PRelu", () => {
  const x = (dims: number[]) => ({
    dims,
    data: awayFrom(
      [0],
      dims.reduce((a, b) => a * b, 1),
      [-2, 2],
    ),
  });
  const pRelu: Parameters<typeof checkGradient>[0] = (g, inputs) => g.op("PRelu", inputs)[0]!;
  test.each([
    { dims: [2, 3], slope: [2, 3] },
    { dims: [2, 3, 4], slope: [3, 1] },
    { dims: [7, 5], slope: [5] },
    { dims: [2, 3], slope: [1] },
  ])("$dims with slope $slope", ({ dims, slope }) => checkGradient(pRelu, [x(dims), { dims: slope }]));
  test("frozen slope", () => checkGradient(pRelu, [x([2, 3]), { dims: [3], frozen: true }]));
  test("frozen input", () => checkGradient(pRelu, [{ ...x([2, 3]), frozen: true }, { dims: [3] }]));
});
