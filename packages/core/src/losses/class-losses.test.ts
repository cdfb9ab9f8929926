import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { binaryCrossEntropy } from "./binary-cross-entropy.ts";
import { type CrossEntropyOptions, crossEntropy } from "./cross-entropy.ts";
import type { LossParts } from "./loss-parts.ts";
import { maskedLanguageModel } from "./masked-language-model.ts";
import { meanSquaredError } from "./mean-squared-error.ts";
import { lossAndGradients } from "./testing/loss-and-gradients.ts";

const logits = [0.5, -1.2, 2, 1.5, 0.3, -0.7, -2, 0.1, 0.4, 3, -3, 0];
const answers = [1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0];
const close = (found: readonly number[], expected: readonly number[]): void => {
  expect(found).toHaveLength(expected.length);
  found.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, 5);
  });
};

// Expected numbers: torch 2.15 in float64.
describe("crossEntropy", () => {
  const classWeights = [1, 2, 0.5];
  const run = (options: CrossEntropyOptions) =>
    lossAndGradients((g, { x, y }) => crossEntropy(g, { logits: x!, labels: y! }, options), {
      x: { dims: [4, 3], data: logits },
      y: { dims: [4], data: [2, 0, -100, 1], type: "int64" },
    });
  test.each([
    {
      options: {},
      loss: 2.2100491,
      gradient: [
        0.0588474, 0.0107504, -0.0695978, -0.0972611, 0.0711036, 0.0261575, 0, 0, 0, 0.3167767, -0.3325481, 0.0157714,
      ],
    },
    {
      options: { classWeights },
      loss: 3.5897128,
      gradient: [
        0.0252203, 0.0046073, -0.0298276, -0.0833667, 0.0609459, 0.0224208, 0, 0, 0, 0.5430458, -0.5700825, 0.0270367,
      ],
    },
    {
      options: { labelSmoothing: 0.1 },
      loss: 2.2000491,
      gradient: [
        0.0477362, -0.0003607, -0.0473756, -0.0750389, 0.0599925, 0.0150464, 0, 0, 0, 0.3056656, -0.3103259, 0.0046603,
      ],
    },
    {
      options: { labelSmoothing: 0.1, classWeights },
      loss: 3.4888893,
      gradient: [
        0.0190592, -0.013826, -0.0052332, -0.0609466, 0.0429141, 0.0180325, 0, 0, 0, 0.5108951, -0.5320433, 0.0211482,
      ],
    },
  ])("as PyTorch with $options", async ({ options, loss, gradient }) => {
    const found = await run(options);
    close([found.loss], [loss]);
    close(found.gradients["x"]!, gradient);
  });
  test("another ignoreIndex, int32 labels, tokens, symbolic class count", () =>
    checkGradient(
      (g, [x, y]) => crossEntropy(g, { logits: x!, labels: y! }, { ignoreIndex: 0, labelSmoothing: 0.2 }).sum,
      [{ dims: [2, 3, 4] }, { dims: [2, 3], type: "int32", data: [0, 1, 3, 2, 0, 0] }],
    ));
  test("halves of a batch add up to the batch", async () => {
    const half = (from: number) =>
      lossAndGradients((g, { x, y }) => crossEntropy(g, { logits: x!, labels: y! }), {
        x: { dims: [2, 3], data: logits.slice(3 * from, 3 * from + 6) },
        y: { dims: [2], data: [2, 0, -100, 1].slice(from, from + 2), type: "int64" },
      });
    const [whole, first, second] = [await run({}), await half(0), await half(2)];
    expect([first.weight, second.weight]).toEqual([2, 1]);
    close([whole.loss], [(first.sum + second.sum) / 3]);
  });
  test("far-off logits stay finite", async () => {
    const found = await lossAndGradients((g, { x, y }) => crossEntropy(g, { logits: x!, labels: y! }), {
      x: { dims: [1, 3], data: [1000, -1000, 0] },
      y: { dims: [1], data: [1], type: "int64" },
    });
    close([found.loss], [2000]);
    close(found.gradients["x"]!, [1, -1, 0]);
  });
  test("wrong shapes and options are named", async () => {
    const labels = { dims: [4, 1], data: [0, 0, 0, 0], type: "int64" as const };
    const x = { dims: [4, 3], data: logits };
    const f = (g: Builder, v: Record<string, Value>) => crossEntropy(g, { logits: v["x"]!, labels: v["y"]! });
    await expect(lossAndGradients(f, { x, y: labels })).rejects.toThrow(/one axis less.*\[batch4, 3\].*\[batch4, 1\]/);
    await expect(run({ classWeights: [1, 2] })).rejects.toThrow(/3 classWeights, received 2/);
    await expect(run({ labelSmoothing: 2 })).rejects.toThrow(/between 0 and 1, received 2/);
  });
});

describe("maskedLanguageModel", () => {
  test("is cross-entropy of the gathered rows, fill-up rows ignored", () =>
    checkGradient(
      (g, [hidden, decoder, positions, labels]) =>
        maskedLanguageModel(g, { hidden: hidden!, positions: positions!, labels: labels! }, (rows) =>
          g.matMul(rows, decoder!),
        ).sum,
      [
        { dims: [2, 3, 2] },
        { dims: [2, 5] },
        { dims: [4], type: "int64", data: [1, 5, 0, 0] },
        { dims: [4], type: "int64", data: [4, 0, -100, -100] },
      ],
      { symbolic: ["shared"] },
    ));
});

describe("binaryCrossEntropy", () => {
  const inputs = { x: { dims: [4, 3], data: logits }, y: { dims: [4, 3], data: answers, frozen: true } };
  test("as PyTorch", async () => {
    const found = await lossAndGradients((g, { x, y }) => binaryCrossEntropy(g, { logits: x!, labels: y! }), inputs);
    close([found.loss, found.weight], [1.2498253, 12]);
    close(
      found.gradients["x"]!,
      [
        -0.0314617, 0.0192896, -0.0099336, 0.0681312, 0.0478702, -0.0556823, -0.0733998, -0.0395851, 0.0498906,
        0.0793812, -0.0793812, 0.0416667,
      ],
    );
  });
  test("as PyTorch with posWeight", async () => {
    const f = (g: Builder, v: Record<string, Value>): LossParts =>
      binaryCrossEntropy(g, { logits: v["x"]!, labels: v["y"]! }, { posWeight: [3, 1, 0.5] });
    const found = await lossAndGradients(f, inputs);
    close([found.loss], [1.6320714]);
    close(
      found.gradients["x"]!,
      [
        -0.0943852, 0.0192896, -0.0049668, 0.0681312, 0.0478702, -0.0278412, -0.2201993, -0.0395851, 0.0498906,
        0.0793812, -0.0793812, 0.0416667,
      ],
    );
  });
  test("finite, and right at a logit of exactly 0 (a head that starts at zero)", async () => {
    const found = await lossAndGradients((g, { x, y }) => binaryCrossEntropy(g, { logits: x!, labels: y! }), {
      x: { dims: [4], data: [0, 0, 500, -500] },
      y: { dims: [4], data: [1, 0, 0, 1], frozen: true },
    });
    close([found.sum], [2 * Math.log(2) + 1000]);
    close(found.gradients["x"]!, [-0.125, 0.125, 0.25, -0.25]);
  });
});

test("meanSquaredError as PyTorch", async () => {
  const found = await lossAndGradients((g, { x, y }) => meanSquaredError(g, { predictions: x!, labels: y! }), {
    x: { dims: [4, 3], data: logits },
    y: { dims: [4, 3], data: answers, frozen: true },
  });
  close([found.loss], [3.5741667]);
  close(
    found.gradients["x"]!,
    [-0.0833333, -0.2, 0.1666667, 0.25, 0.05, -0.2833333, -0.5, -0.15, 0.0666667, 0.5, -0.6666667, 0],
  );
});
