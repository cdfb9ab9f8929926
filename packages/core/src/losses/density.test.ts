import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { densityLoss, exactDensity } from "./density.ts";

interface Layer {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}
interface Case {
  readonly name: string;
  readonly eps: number;
  readonly mask: readonly number[] | null;
  readonly value: number;
  readonly gradients: readonly (readonly number[])[];
}

/** PyTorch in float64; see parity/README.md. */
const { layers, cases } = JSON.parse(
  readFileSync(new URL("../../../../parity/golden/density.json", import.meta.url), "utf8"),
) as { layers: Layer[]; cases: Case[] };

const float = ({ shape, data }: Layer): RuntimeTensor => ({
  type: "float32",
  dims: shape,
  data: Float32Array.from(data),
});
const numbers = (tensor: RuntimeTensor | undefined): number[] => Array.from((tensor?.data ?? []) as Float32Array);

/** Density and its gradients; `rows` gives activations as the rows that some models compute with. */
async function densityOf(input: readonly Layer[], eps: number, mask: Layer | null, rows = false) {
  const g = createBuilder();
  const inputs = input.map(({ shape }, i) =>
    g.input(`a${i}`, "float32", rows ? ["rows", shape[2] ?? 0] : ["batch", "tokens", shape[2] ?? 0]),
  );
  const flags = mask ? g.input("mask", "int64", ["batch", "tokens"]) : null;
  const loss = densityLoss(g, inputs, { eps, mask: flags });
  const gradients = differentiate(g, [{ value: loss }], inputs);
  g.output(loss, "loss");
  gradients.forEach((d, i) => {
    g.output(d, `d${i}`);
  });
  const feeds = Object.fromEntries(
    input.map((layer, i) => {
      const [samples = 0, tokens = 0, width = 0] = layer.shape;
      return [`a${i}`, float(rows ? { shape: [samples * tokens, width], data: layer.data } : layer)];
    }),
  );
  const masks: Record<string, RuntimeTensor> = mask
    ? { mask: { type: "int64", dims: mask.shape, data: BigInt64Array.from(mask.data, BigInt) } }
    : {};
  const found = await runBuilder(g, { ...feeds, ...masks });
  return { value: numbers(found["loss"])[0] ?? Number.NaN, gradients: inputs.map((_, i) => numbers(found[`d${i}`])) };
}

describe("PyTorch", () => {
  test.each(cases.flatMap((c) => [false, true].map((rows) => [c.name, rows, c] as const)))(
    "%s, rows %s",
    async (_, rows, c) => {
      const mask = c.mask ? { shape: [3, 4], data: c.mask } : null;
      const found = await densityOf(layers, c.eps, mask, rows);
      expect(Math.abs(found.value - c.value)).toBeLessThan(1e-6);
      c.gradients.forEach((expected, i) => {
        const scale = Math.max(...expected.map(Math.abs));
        found.gradients[i]?.forEach((d, k) => {
          expect(Math.abs(d - (expected[k] ?? Number.NaN))).toBeLessThan(1e-6 * Math.max(scale, 1e-3));
        });
      });
    },
  );
});

const eps = 1e-7;
const f = (a: number): number => (a * a) / (a * a + eps);
const slope = (a: number): number => (2 * a * eps) / (a * a + eps) ** 2;

test("value and slope at 0, at sqrt(eps), and far away; the slope of large activations keeps its digits", async () => {
  const points = [0, Math.sqrt(eps), Math.sqrt(eps / 3), 0.1, 1, 30];
  const { gradients } = await densityOf([{ shape: [1, 1, points.length], data: points }], eps, null);
  points.forEach((a, i) => {
    const h = Math.max(1e-8, 1e-5 * a);
    const difference = (f(a + h) - f(a - h)) / (2 * h);
    // Where f is 1 to all digits, differences know nothing.
    if (a < 0.01) expect(Math.abs(difference - slope(a))).toBeLessThan(1e-3 * 2.1e3);
    const found = (gradients[0]?.[i] ?? Number.NaN) * points.length;
    expect(Math.abs(found - slope(a))).toBeLessThanOrEqual(1e-5 * slope(a));
  });
  for (const [a, expected] of [
    [0, 0],
    [Math.sqrt(eps), 0.5],
    [10, 1],
  ] as const) {
    const { value } = await densityOf([{ shape: [1, 1, 1], data: [a] }], eps, null);
    expect(value).toBeCloseTo(expected, 6);
  }
});

test("every layer weighs the same, whatever its width", async () => {
  const closed: Layer = { shape: [1, 2, 2], data: [0, 0, 0, 0] };
  const open: Layer = { shape: [1, 2, 6], data: Array.from({ length: 12 }, () => 5) };
  expect((await densityOf([closed, open], eps, null)).value).toBeCloseTo(0.5, 6);
  expect((await densityOf([open, closed, closed], eps, null)).value).toBeCloseTo(1 / 3, 6);
});

test("padding counts unless a mask leaves it out", async () => {
  const short: Layer = { shape: [1, 2, 2], data: [3, 0, 0, 0] };
  const padded: Layer = { shape: [1, 4, 2], data: [3, 0, 0, 0, 7, 7, 7, 7] };
  const [own, longer] = [await densityOf([short], eps, null), await densityOf([padded], eps, null)];
  expect(own.value).toBeCloseTo(0.25, 6);
  expect(longer.value).toBeCloseTo(5 / 8, 6);
  const masked = await densityOf([padded], eps, { shape: [1, 4], data: [1, 1, 0, 0] });
  expect(masked.value).toBeCloseTo(0.25, 6);
  expect(masked.gradients[0]?.slice(4)).toEqual([0, 0, 0, 0]);
});

test("the exact density counts zeros, of either sign, and nothing that is merely small", async () => {
  const g = createBuilder();
  const a = g.input("a", "float32", ["batch", "tokens", 4]);
  g.output(exactDensity(g, a, null), "density");
  const data = [0, -0, 2e-38, -2, 1e-12, 0, 0, 4];
  const { density } = await runBuilder(g, { a: float({ shape: [1, 2, 4], data }) });
  expect(numbers(density)).toEqual([0.5]);
});

test("layers are wanted", () => {
  expect(() => densityLoss(createBuilder(), [])).toThrow(expect.objectContaining({ code: "LOSS_SHAPE" }));
});
