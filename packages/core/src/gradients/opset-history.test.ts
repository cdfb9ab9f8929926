import { test } from "vitest";
import type { AttributeInput } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";

interface Form {
  readonly opset: number;
  readonly op: string;
  readonly dims: readonly number[];
  readonly attributes?: Record<string, AttributeInput>;
  /** Constant integer inputs after the first; null: absent. */
  readonly ints?: readonly (readonly number[] | null)[];
  readonly count?: number;
}

/** What an operator's attributes and inputs were in the opsets that the reader takes, beside the newest form. */
const forms: readonly Form[] = [
  { opset: 11, op: "Squeeze", dims: [1, 3, 1], attributes: { axes: [0, -1] } },
  { opset: 13, op: "Squeeze", dims: [1, 3, 1], ints: [[-1]] },
  { opset: 11, op: "Unsqueeze", dims: [3, 2], attributes: { axes: [0, -1] } },
  { opset: 11, op: "Split", dims: [2, 5], attributes: { axis: -1, split: [2, 3] }, count: 2 },
  { opset: 11, op: "Split", dims: [6, 2], attributes: { axis: 0 }, count: 3 },
  { opset: 13, op: "Split", dims: [2, 5], attributes: { axis: 1 }, ints: [[4, 1]], count: 2 },
  { opset: 18, op: "Split", dims: [2, 7], attributes: { axis: 1, num_outputs: 3 }, count: 3 },
  { opset: 11, op: "Softmax", dims: [2, 3, 2], attributes: { axis: 1 } },
  { opset: 12, op: "LogSoftmax", dims: [2, 3, 2], attributes: { axis: -2 } },
  { opset: 13, op: "Softmax", dims: [2, 3, 2], attributes: { axis: 1 } },
  { opset: 11, op: "ReduceSum", dims: [2, 3, 2], attributes: { axes: [0, -1], keepdims: 0 } },
  { opset: 13, op: "ReduceSum", dims: [2, 3], attributes: { noop_with_empty_axes: 1 }, ints: [[]] },
  { opset: 13, op: "ReduceMean", dims: [2, 3], attributes: { axes: [1] } },
  { opset: 18, op: "ReduceMean", dims: [2, 3], attributes: { noop_with_empty_axes: 1 } },
  { opset: 18, op: "ReduceSumSquare", dims: [2, 3], ints: [[0]] },
  { opset: 11, op: "Pad", dims: [2, 3], ints: [[0, 1, 1, -1]] },
  { opset: 18, op: "Pad", dims: [2, 3, 2], ints: [[2, 1], null, [1]] },
  { opset: 19, op: "Pad", dims: [2, 3], attributes: { mode: "wrap" }, ints: [[1, 2, 0, 1]] },
  {
    opset: 11,
    op: "Slice",
    dims: [5, 3],
    ints: [
      [4, 2],
      [-100, 0],
      [0, 1],
      [-2, -1],
    ],
  },
  { opset: 13, op: "Slice", dims: [5, 3], ints: [[1], [100], [-1]] },
  { opset: 11, op: "TopK", dims: [2, 5], attributes: { axis: 1, sorted: 0, largest: 0 }, ints: [[3]], count: 2 },
  { opset: 11, op: "Flatten", dims: [2, 3, 2], attributes: { axis: -1 } },
  { opset: 14, op: "Reshape", dims: [2, 6], attributes: { allowzero: 1 }, ints: [[4, 3]] },
  { opset: 11, op: "Clip", dims: [2, 3] },
  { opset: 20, op: "Gelu", dims: [5], attributes: { approximate: "tanh" } },
  { opset: 14, op: "CumSum", dims: [2, 4], attributes: { exclusive: 1, reverse: 1 }, ints: [[1]] },
];

/** Of several outputs, those that are no indices, each multiplied by itself so that its gradient depends on the entry. */
const apply =
  ({ op, attributes = {}, ints = [], count = 1 }: Form) =>
  (g: Builder, [x]: Value[]): Value[] => {
    const scalar = op === "CumSum";
    const constants = ints.map((list) => (list ? g.constant("int64", list, scalar ? [] : [list.length]) : null));
    const outputs = g.op(op, [x!, ...constants], attributes, { count });
    return outputs.filter((y) => y.type === "float32").map((y) => g.mul(y, y));
  };

test.each(
  forms.map((form) => [`${form.op} of opset ${form.opset} ${JSON.stringify(form.attributes ?? {})}`, form] as const),
)("%s", async (_, form) => {
  // Values apart from each other: TopK has no derivative at ties.
  const size = form.dims.reduce((a, b) => a * b, 1);
  const data = Array.from({ length: size }, (_v, i) => (((i * 7) % size) + 1) / size - 0.4);
  const sized = form.op === "Squeeze" || form.op === "Unsqueeze";
  await checkGradient(apply(form), [{ dims: form.dims, data }], {
    opset: form.opset,
    ...(sized ? { symbolic: [] } : { symbolic: ["distinct"] }),
  });
});

test("GatherND with batch axes, of opset 12", () =>
  checkGradient(
    (g, [x, i]) => g.gatherND(g.mul(x!, x!), i!, 1),
    [{ dims: [2, 3, 2] }, { dims: [2, 2, 1], type: "int64", data: [2, 0, 1, 1], fixedAxes: [2] }],
    { opset: 12, symbolic: ["shared"] },
  ));
