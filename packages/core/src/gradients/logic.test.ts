import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { CheckedInput } from "../testing/check-gradient.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";

const where = (g: Builder, [c, a, b]: Value[]): Value => g.where(c!, a!, b!);
const condition = (dims: number[]): CheckedInput => ({ dims, type: "bool" });

describe("Where", () => {
  test.each([
    { c: [2, 3], a: [2, 3], b: [2, 3] },
    { c: [3], a: [2, 3, 1], b: [] },
    { c: [7, 1], a: [5], b: [7, 5] },
    { c: [2, 1, 4], a: [1], b: [3, 1] },
  ])("$c, $a, $b", ({ c, a, b }) => checkGradient(where, [condition(c), { dims: a }, { dims: b }]));
  test("one frozen branch", async () => {
    await checkGradient(where, [condition([2, 3]), { dims: [3], frozen: true }, { dims: [2, 1] }]);
    await checkGradient(where, [condition([2, 3]), { dims: [2, 3] }, { dims: [], frozen: true }]);
  });
  test("an attention mask with -infinity leaves finite gradients", async () => {
    const [dX] = await gradientAt(
      (g, [scores]) => {
        const allowed = g.initializer("allowed", { type: "bool", dims: [3], data: Uint8Array.of(1, 1, 0) });
        return g.softmax(g.where(allowed, scores!, g.constant("float32", -Infinity)));
      },
      [[0, 0, 5]],
      [1, 0, 7],
    );
    expect(dX).toEqual([0.25, -0.25, 0]);
  });
});

const steps = ["Sign", "Floor", "Ceil", "Round"];
test.each(steps)("%s passes no gradient on", async (op) => {
  const f = (g: Builder, [x]: Value[]): Value => g.add(g.op(op, [x!])[0]!, g.mul(x!, 3));
  expect(await gradientAt(f, [[0.3, -1.7]])).toEqual([[3, 3]]);
});

test.each(["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])("%s passes no gradient on", async (op) => {
  const f = (g: Builder, [x, y]: Value[]): Value => g.mul(g.cast(g.op(op, [x!, y!])[0]!, "float32"), x!);
  const [dX, dY] = await gradientAt(f, [
    [1, 2, 3],
    [2, 2, 2],
  ]);
  const holds = {
    Equal: [0, 1, 0],
    Greater: [0, 0, 1],
    Less: [1, 0, 0],
    GreaterOrEqual: [0, 1, 1],
    LessOrEqual: [1, 1, 0],
  };
  expect(dX).toEqual(holds[op as keyof typeof holds]);
  expect(dY).toEqual([0, 0, 0]);
});

test("IsNaN, IsInf and the logic between them pass no gradient on", async () => {
  const f = (g: Builder, [x]: Value[]): Value => {
    const [nan, inf] = [g.op("IsNaN", [x!])[0]!, g.op("IsInf", [x!])[0]!];
    const bad = g.op("Xor", [g.or(nan, inf), g.and(nan, inf)])[0]!;
    return g.mul(g.cast(g.not(bad), "float32"), x!);
  };
  expect(await gradientAt(f, [[1, Infinity, NaN, 2]])).toEqual([[1, 0, 0, 1]]);
});
