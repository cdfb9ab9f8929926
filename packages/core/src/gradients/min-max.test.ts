import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { CheckedInput } from "../testing/check-gradient.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { awayFrom, gradientAt } from "../testing/gradient-at.ts";

const many =
  (op: string) =>
  (g: Builder, inputs: (Value | null)[]): Value =>
    g.op(op, inputs)[0]!;

/** Distinct values, so that no two inputs tie. */
const spread = (dims: number[], offset: number, rest: Partial<CheckedInput> = {}): CheckedInput => ({
  dims,
  data: Array.from(
    {
      length: dims.reduce((a, b) => a * b, 1),
    },
    (_, i) => (((i + 1) * 37) % 23) / 7 - 1.5 + offset,
  ),
  ...rest,
});

describe.each(["Min", "Max"])("%s", (op) => {
  test.each([
    [[spread([2, 3], 0)]],
    [[spread([2, 3], 0), spread([3], 0.07)]],
    [[spread([2, 3, 4], 0), spread([4], 0.07), spread([3, 1], 0.035)]],
    [[spread([7, 5], 0), spread([], 0.07, { frozen: true })]],
    [[spread([5], 0, { frozen: true }), spread([7, 5], 0.07)]],
  ])("case %#", (inputs) => checkGradient(many(op), inputs, { step: 4e-3 }));

  test("equal inputs share, infinities are harmless", async () => {
    const low = op === "Max" ? -Infinity : Infinity;
    const gradients = await gradientAt(
      many(op),
      [
        [1, low, low],
        [1, 2, low],
        [1, low, low],
      ],
      [3, 3, 3],
    );
    expect(gradients).toEqual([
      [1, 0, 1],
      [1, 3, 1],
      [1, 0, 1],
    ]);
  });
});

describe("Clip", () => {
  const x = (dims: number[]): CheckedInput => ({
    dims,
    data: awayFrom(
      [-0.5, 0.7],
      dims.reduce((a, b) => a * b, 1),
      [-2, 2],
    ),
  });
  const low: CheckedInput = { dims: [], data: [-0.5] };
  const high: CheckedInput = { dims: [], data: [0.7] };

  test.each([
    { dims: [6], opset: 11 },
    { dims: [7, 5], opset: 21 },
    { dims: [2, 3, 4], opset: 13 },
  ])("$dims with trainable limits, opset $opset", ({ dims, opset }) =>
    checkGradient(many("Clip"), [x(dims), low, high], { opset, ...(opset < 13 ? { symbolic: [] } : {}) }),
  );
  test("frozen limits", () =>
    checkGradient(many("Clip"), [x([2, 3]), { ...low, constant: true }, { ...high, frozen: true }]));
  test("frozen input", () => checkGradient(many("Clip"), [{ ...x([2, 3]), frozen: true }, low, high]));
  test("one limit or none", async () => {
    await checkGradient((g, [v, l]) => many("Clip")(g, [v!, l!]), [x([2, 3]), low]);
    await checkGradient((g, [v, h]) => many("Clip")(g, [v!, null, h!]), [x([2, 3]), high]);
    await checkGradient((g, [v]) => many("Clip")(g, [v!]), [x([2, 3])]);
  });

  test("at the limits and between crossed limits as in PyTorch", async () => {
    const limits = (l: number, h: number) => [
      { dims: [], data: [l] },
      { dims: [], data: [h] },
    ];
    const xs = [-2, -1, 0, 1, 2];
    expect(await gradientAt(many("Clip"), [xs, ...limits(-1, 1)])).toEqual([[0, 1, 1, 1, 0], [1], [1]]);
    expect(await gradientAt(many("Clip"), [xs, ...limits(1, -1)])).toEqual([[0, 1, 0, 0, 0], [0], [5]]);
  });
});
