import { describe, test } from "vitest";
import { checkGradient } from "../testing/check-gradient.ts";

const labels = (dims: number[], data: number[], type: "int64" | "int32" = "int64") => ({ dims, type, data });

describe.each(["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])("%s", (op) => {
  describe.each(["mean", "sum", "none"])("reduction %s", (reduction) => {
    test.each([
      { dims: [4, 3], target: labels([4], [0, 2, 1, 2]) },
      { dims: [2, 5, 3], target: labels([2, 3], [0, 4, 1, 2, 3, 3], "int32") },
      { dims: [1, 2], target: labels([1], [1]) },
    ])("$dims", async ({ dims, target }) => {
      await checkGradient((g, [x, t]) => g.op(op, [x!, t!], { reduction }), [{ dims }, target], {
        symbolic: ["shared"],
      });
      const weights = { dims: [dims[1]!], range: [0.5, 2] as const, frozen: true };
      await checkGradient((g, [x, t, w]) => g.op(op, [x!, t!, w!], { reduction }), [{ dims }, target, weights], {
        symbolic: ["shared"],
      });
    });
    test("ignore_index, with and without weights", async () => {
      const target = labels([4], [0, -100, 1, -100]);
      const weights = { dims: [3], range: [0.5, 2] as const, frozen: true };
      const attributes = { reduction, ignore_index: -100 };
      await checkGradient((g, [x, t]) => g.op(op, [x!, t!], attributes), [{ dims: [4, 3] }, target], {
        symbolic: ["shared"],
      });
      await checkGradient((g, [x, t, w]) => g.op(op, [x!, t!, w!], attributes), [{ dims: [4, 3] }, target, weights], {
        symbolic: ["shared"],
      });
    });
  });
  test("opset 13", () =>
    checkGradient((g, [x, t]) => g.op(op, [x!, t!]), [{ dims: [4, 3] }, labels([4], [0, 2, 1, 2])], { opset: 13 }));
});

test("gradients of the loss and of the log-probabilities add up", () =>
  checkGradient(
    (g, [x, t]) => g.op("SoftmaxCrossEntropyLoss", [x!, t!], {}, { count: 2 }),
    [{ dims: [4, 3] }, labels([4], [0, 2, 1, 2])],
  ));
