import { describe, test } from "vitest";
import { checkGradient } from "../testing/check-gradient.ts";

describe.each(["Softmax", "LogSoftmax"])("%s", (op) => {
  test.each([
    { dims: [4], axis: -1 },
    { dims: [2, 3], axis: -1 },
    { dims: [2, 3, 5], axis: 1 },
    { dims: [3, 7, 2], axis: 0 },
    { dims: [2, 2, 3, 3], axis: -2 },
    { dims: [5, 1], axis: 1 },
  ])("$dims over axis $axis", ({ dims, axis }) => checkGradient((g, [x]) => g.op(op, [x!], { axis }), [{ dims }]));

  test("the default axis is the last one", () => checkGradient((g, [x]) => g.op(op, [x!]), [{ dims: [2, 3, 2] }]));

  test.each([{}, { axis: 2 }, { axis: 0 }, { axis: -1 }])(
    "opset 11 normalises over all axes from %j on",
    (attributes) => checkGradient((g, [x]) => g.op(op, [x!], attributes), [{ dims: [2, 3, 2] }], { opset: 11 }),
  );

  test("large logits stay finite", () =>
    checkGradient((g, [x]) => g.op(op, [x!]), [{ dims: [2, 3], data: [200, 199, 201, -150, -149, -151] }], {
      tolerance: 2e-2, // a logit of 200 has steps of 1.5e-5
    }));
});
