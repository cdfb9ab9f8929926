import { describe, expect, test } from "vitest";
import { importGraph } from "../graph/import-graph.ts";
import { createInt8Plan, type Int8Plan } from "../int8/plan.ts";
import { fourLayers, HIDDEN, IN } from "../int8/testing/four-layers.ts";
import { createRandom } from "../random/random.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { calibrate } from "./calibrate.ts";
import { int8Event, planInt8 } from "./plan-int8.ts";
import { buildTrainingProgram } from "./program.ts";

const model = fourLayers();
const [BATCH, TOKENS] = [4, 6];
const random = createRandom(3);

function feeds(change: (value: number, channel: number, row: number) => number = (v) => v): Feeds {
  const data = random
    .fillNormal(new Float32Array(BATCH * TOKENS * IN), 0, 1)
    .map((v, i) => change(v, i % IN, Math.floor(i / IN)));
  return { x: { type: "float32", dims: [BATCH, TOKENS, IN], data } };
}

const build = () => {
  const g = importGraph(model.graph, 17);
  const y = g.value("y");
  return { g, loss: g.reduceSum(g.mul(y, y), [0, 1], false) };
};

const plan = (batches: Feeds[], largestError?: number) =>
  planInt8({
    model,
    build,
    batches,
    bits: 8,
    isolation: "inline",
    threads: 1,
    ...(largestError ? { largestError } : {}),
  });

describe("planInt8", () => {
  test("ordinary activations: everything in 8 bits, nothing smoothed, small errors", async () => {
    const calibrated = await plan([feeds(), feeds()]);
    expect(int8Event(calibrated)).toMatchObject({ type: "int8", bits: 8, kept: [], converted: ["a", "b", "c", "d"] });
    expect([...calibrated.plan.linears.values()].map((l) => l.smoothing)).toEqual([null, null, null, null]);
    for (const { forward, backward } of calibrated.errors) {
      expect(forward).toBeGreaterThan(1e-4);
      expect(Math.max(forward, backward)).toBeLessThan(0.02);
    }
  });

  test("outlier channels are smoothed, where they are and nowhere else", async () => {
    const outlying = (v: number, channel: number): number => (channel === 7 || channel === 90 ? 30 * v : v);
    const calibrated = await plan([feeds(outlying), feeds(outlying)]);
    const factors = [...calibrated.plan.linears.values()].map((l) => l.smoothing?.dims ?? null);
    expect(factors).toEqual([[IN], null, null, null]);
    expect(calibrated.plan.kept).toEqual([]);
  });

  test("a token that drowns all others is seen row by row: that layer stays in float32", async () => {
    const drowning = (v: number, _: number, row: number): number => (row === 5 ? 5000 * v : v);
    const { plan: made, errors } = await plan([feeds(drowning)]);
    expect(made.kept.map((k) => k.name)).toEqual(["a"]);
    expect(made.kept[0]?.reason).toMatch(/^relative error 0\.\d+ forward, 0\.\d+ backward$/);
    expect(made.linears.has("a")).toBe(false);
    expect(errors.map((e) => e.name)).toEqual(["a", "b", "c", "d"]);
  });

  test("a stricter bound keeps more", async () => {
    expect((await plan([feeds()], 1e-6)).plan.linears.size).toBe(0);
  });

  test("without batches there is nothing to calibrate on", async () => {
    await expect(plan([])).rejects.toMatchObject({ code: "NO_DATA" });
  });
});

describe("calibrate", () => {
  const batches = [feeds((v, channel) => (channel === 3 ? 9 : v)), feeds()];
  const options = { isolation: "inline", threads: 1 } as const;
  const columns = (channel: number): number[] =>
    batches.flatMap(({ x }) => [...(x!.data as Float32Array)].filter((_, i) => i % IN === channel));

  test("per channel: largest, smallest, magnitudes, squares", async () => {
    const values = columns(11);
    const mean = (list: number[]): number => list.reduce((a, b) => a + b, 0) / list.length;
    const expected = {
      max: Math.max(...values),
      min: Math.min(...values),
      absMax: Math.max(...values.map(Math.abs)),
      absMean: mean(values.map(Math.abs)),
      meanSquare: mean(values.map((v) => v * v)),
    };
    for (const [collect, value] of Object.entries(expected)) {
      const found = await calibrate(model, batches, { ...options, collect: collect as keyof typeof expected });
      expect(found.get("a")).toHaveLength(IN);
      expect(found.get("d")).toHaveLength(HIDDEN);
      expect(found.get("a")?.[11]).toBeCloseTo(value, 5);
    }
    const largest = await calibrate(model, batches, { ...options, collect: "absMax", modules: ["a"] });
    expect([...largest.keys()]).toEqual(["a"]);
    expect(largest.get("a")?.[3]).toBe(9);
  });

  test("gram: the sum of products of channels", async () => {
    const gram = (await calibrate(model, batches, { ...options, collect: "gram", modules: ["a"] })).get("a");
    const expected = columns(2).reduce((sum, v, i) => sum + v * (columns(5)[i] ?? 0), 0);
    expect(gram).toHaveLength(IN * IN);
    expect(gram?.[2 * IN + 5]).toBeCloseTo(expected, 3);
  });
});

test("a program that is built with a plan says so", () => {
  const programOf = (int8?: Int8Plan) => {
    const { g, loss } = build();
    return buildTrainingProgram(
      g,
      { sum: loss, weight: g.constant("float32", 1) },
      [g.value("x")],
      int8 ? { int8 } : {},
    );
  };
  expect(programOf(createInt8Plan(model, { bits: 8 })).isInt8).toBe(true);
  expect(programOf()).not.toHaveProperty("isInt8");
});
