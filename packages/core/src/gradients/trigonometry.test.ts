import { describe, test } from "vitest";
import type { UnaryCase } from "../testing/check-unary.ts";
import { caseName, checkUnary } from "../testing/check-unary.ts";

const cases: UnaryCase[] = [
  { op: "Sin" },
  { op: "Cos" },
  { op: "Tan", range: [-1, 1] },
  { op: "Asin", range: [-0.8, 0.8] },
  { op: "Acos", range: [-0.8, 0.8] },
  { op: "Atan" },
  { op: "Sin", opset: 11 },
];

describe("trigonometry", () => {
  test.each(cases.map((c) => [caseName(c), c] as const))("%s", (_, unary) => checkUnary(unary));
});
