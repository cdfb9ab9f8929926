import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { cosineEmbedding } from "./cosine-embedding.ts";
import { multipleNegatives } from "./multiple-negatives.ts";
import { lossAndGradients } from "./testing/loss-and-gradients.ts";
import { triplet } from "./triplet.ts";

const a = { dims: [4, 3], data: [0.5, -1.2, 2, 1.5, 0.3, -0.7, -2, 0.1, 0.4, 3, -3, 0] };
const b = { dims: [4, 3], data: [1, 0.2, -0.5, 0.4, 0.9, 0.1, -1, 0.6, 0.8, 0.3, -0.2, 1.1] };
const c = { dims: [4, 3], data: [-0.3, 0.7, 0.2, 0.8, -0.6, 0.5, 0.1, 0.1, -0.9, 1.2, 0.4, -0.4] };
const close = (found: readonly number[], expected: readonly number[], digits = 4): void => {
  expect(found).toHaveLength(expected.length);
  found.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, digits);
  });
};

// Expected numbers: torch 2.15 in float64.
describe("cosineEmbedding as PyTorch", () => {
  const labels = { dims: [4], data: [1, -1, -1, 1], frozen: true };
  test.each([
    { margin: 0, loss: 0.8180547, second: [-0.0036071, 0.1223756, 0.0447172] },
    { margin: 0.5, loss: 0.57296, second: [0, 0, 0] },
  ])("margin $margin", async ({ margin, loss, second }) => {
    const found = await lossAndGradients(
      (g, v) => cosineEmbedding(g, { first: v["a"]!, second: v["b"]!, labels: v["y"]! }, { margin }),
      { a, b, y: labels },
    );
    close([found.loss], [loss]);
    close(found.gradients["a"]!, [
      -0.0982764,
      -0.0040543,
      0.0221365,
      ...second,
      0.0122482,
      0.0469999,
      0.0494911,
      -0.0025452,
      -0.0025452,
      -0.0559943,
    ]);
  });
});

describe("multipleNegatives as PyTorch", () => {
  test.each([
    { hard: false, symmetric: false, loss: 9.6203171, row: [-1.8344155, 0.5458386, 0.7861071] },
    { hard: false, symmetric: true, loss: 9.5734953, row: [-1.8344161, 0.5458381, 0.7861069] },
    { hard: true, symmetric: false, loss: 11.7072009, row: [-1.7792487, 0.496402, 0.7426534] },
    { hard: true, symmetric: true, loss: 10.6169372, row: [-1.8068327, 0.5211198, 0.76438] },
  ])("hard negatives $hard, symmetric $symmetric", async ({ hard, symmetric, loss, row }) => {
    const f = (g: Builder, v: Record<string, Value>) =>
      multipleNegatives(
        g,
        { anchors: v["a"]!, positives: v["b"]!, ...(hard ? { hardNegatives: v["c"]! } : {}) },
        { symmetric },
      );
    const found = await lossAndGradients(f, hard ? { a, b, c } : { a, b });
    close([found.loss, found.weight], [loss, 4]);
    close(found.gradients["a"]!.slice(0, 3), row);
  });
  test("plain dot products with another temperature, symbolic sizes; couples samples", () =>
    checkGradient(
      (g, [x, y, z]) => {
        const parts = multipleNegatives(
          g,
          { anchors: x!, positives: y!, hardNegatives: z! },
          { similarity: "dot", temperature: 1, symmetric: true },
        );
        expect(parts.couplesSamples).toBe(true);
        return parts.sum;
      },
      [{ dims: [3, 4] }, { dims: [3, 4] }, { dims: [5, 4] }],
      { symbolic: ["shared"] },
    ));
  test("a temperature of 0 is refused", async () => {
    const f = (g: Builder, v: Record<string, Value>) =>
      multipleNegatives(g, { anchors: v["a"]!, positives: v["b"]! }, { temperature: 0 });
    await expect(lossAndGradients(f, { a, b })).rejects.toThrow(/temperature above 0, received 0/);
  });
});

describe("triplet as PyTorch", () => {
  test.each([
    {
      options: {},
      loss: 0.7943985,
      dA: [-0.1160543, 0.0532287, 0.050453, 0.0792637, -0.2368284, 0.046702, 0, 0, 0, 0.0506404, 0.0465925, -0.0938854],
    },
    {
      options: { distance: "cosine", margin: 0.5 } as const,
      loss: 0.36396,
      dA: [
        -0.1313066, 0.072556, 0.0763602, 0.0627402, -0.2115685, 0.0437712, 0, 0, 0, 0.0329883, 0.0329883, -0.0737611,
      ],
    },
  ])("$options", async ({ options, loss, dA }) => {
    const f = (g: Builder, v: Record<string, Value>) =>
      triplet(g, { anchors: v["a"]!, positives: v["b"]!, negatives: v["c"]! }, options);
    const found = await lossAndGradients(f, { a, b, c });
    close([found.loss], [loss]);
    close(found.gradients["a"]!, dA);
  });
  test("a negative margin is refused", async () => {
    const f = (g: Builder, v: Record<string, Value>) =>
      triplet(g, { anchors: v["a"]!, positives: v["b"]!, negatives: v["c"]! }, { margin: -1 });
    await expect(lossAndGradients(f, { a, b, c })).rejects.toThrow(/margin of at least 0/);
  });
});

test("equal and zero embeddings have finite gradients", async () => {
  const zero = { dims: [2, 2], data: [0, 0, 1, 0] };
  for (const distance of ["euclidean", "cosine"] as const) {
    const found = await lossAndGradients(
      (g, v) => triplet(g, { anchors: v["a"]!, positives: v["b"]!, negatives: v["c"]! }, { distance }),
      { a: zero, b: zero, c: zero },
    );
    for (const gradient of Object.values(found.gradients)) expect(gradient.every(Number.isFinite)).toBe(true);
  }
});
