import { describe, expect, test } from "vitest";
import type { UnaryCase } from "../testing/check-unary.ts";
import { applyUnary, caseName, checkUnary } from "../testing/check-unary.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const cases: UnaryCase[] = [
  { op: "Exp" },
  { op: "Log", range: [0.3, 3] },
  { op: "Sinh" },
  { op: "Cosh" },
  { op: "Tanh" },
  { op: "Asinh" },
  { op: "Acosh", range: [1.3, 3] },
  { op: "Atanh", range: [-0.8, 0.8] },
  { op: "Sigmoid" },
  { op: "Erf" },
  { op: "Erf", opset: 11 },
  { op: "Exp", opset: 11 },
];

describe("exponential functions", () => {
  test.each(cases.map((c) => [caseName(c), c] as const))("%s", (_, unary) => checkUnary(unary));

  test("log at 0 as in PyTorch: infinite, and NaN where nothing flows back", async () => {
    const [dX] = await gradientAt(applyUnary({ op: "Log" }), [[0, 0]], [1, 0]);
    expect(dX).toEqual([Infinity, NaN]);
  });

  test("saturated tails give 0 and no NaN", async () => {
    for (const op of ["Tanh", "Sigmoid", "Erf"]) {
      const [dX] = await gradientAt(applyUnary({ op }), [[-200, 200, -Infinity, Infinity]]);
      expect(dX).toEqual([0, 0, 0, 0]);
    }
  });
});
