import { describe, expect, test } from "vitest";
import { dct2, idct2 } from "../linalg/dct.ts";
import { matrix } from "../linalg/matrix.ts";
import { largestDifference } from "../linalg/measure.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { loca } from "./loca.ts";
import { createLocations } from "./loca-locations.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { frozenOf, type OneSite, parsedConfig, runOneSite, siteOf, startOf } from "./testing/one-site.ts";
import { tinyTraining } from "./testing/tiny-training.ts";

const random = testRandom(71);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const places = (rows: number[], columns: number[]): AdapterTensor => ({
  dims: [2, rows.length],
  data: Float32Array.from([...rows, ...columns]),
});
const weight = draw(7, 5);
const layer = (config: object, w = weight): OneSite => ({
  method: loca as unknown as Method,
  config: { ...config },
  weight: w,
});
const changeOf = (at: OneSite, tensors: Record<string, AdapterTensor>): Float32Array => {
  const delta = loca.delta!(tensors, parsedConfig(at) as never, siteOf(at), frozenOf(at));
  return (delta.weight as { add: Float32Array }).add;
};
const near = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-5): void => {
  for (let i = 0; i < b.length; i++)
    expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(tolerance * Math.max(1, Math.abs(b[i]!)));
};

describe("the change", () => {
  test("is the inverse transform of the scattered spectrum, in the graph and as weights; places that meet add up", async () => {
    const at = layer({ nFrequency: 6, scaling: 3, learnLocations: false });
    const tensors = { a: draw(6), locations: places([0, 6, 3, 3, 0, 6], [0, 4, 1, 1, 4, 0]) };
    const spectrum = matrix(7, 5);
    tensors.a.data.forEach((v, k) => {
      const cell = tensors.locations.data[k]! * 5 + tensors.locations.data[6 + k]!;
      spectrum.data[cell] = spectrum.data[cell]! + 3 * v;
    });
    const scattered = idct2(spectrum);
    near(changeOf(at, tensors), scattered.data);
    const x = draw(4, 5);
    const none = { ...tensors, a: { dims: [6], data: new Float32Array(6) } };
    const [moved, base] = [
      await runOneSite(at, tensors, x, new Float32Array(28)),
      await runOneSite(at, none, x, new Float32Array(28)),
    ];
    const expected = Float32Array.from({ length: 28 }, (_, i) => {
      const [row, o] = [Math.floor(i / 7), i % 7];
      return (
        base.y[i]! + [0, 1, 2, 3, 4].reduce((sum, j) => sum + x.data[row * 5 + j]! * scattered.data[o * 5 + j]!, 0)
      );
    });
    near(moved.y, expected);
  });
  test("with every place any change can be had", () => {
    const at = layer({ nFrequency: 35, scaling: 2, learnLocations: false });
    const wanted = matrix(7, 5, draw(7, 5).data);
    const spectrum = dct2(wanted);
    const all = Array.from({ length: 35 }, (_, i) => i);
    const tensors = {
      a: { dims: [35], data: Float32Array.from(spectrum.data, (v) => v / 2) },
      locations: places(
        all.map((i) => Math.floor(i / 5)),
        all.map((i) => i % 5),
      ),
    };
    expect(largestDifference(matrix(7, 5, changeOf(at, tensors)), wanted)).toBeLessThan(1e-5);
  });
  test("corners of the grid stay inside, with probes too", async () => {
    const at = layer({ nFrequency: 4, scaling: 2 });
    const corners = places([0, 0, 6, 6], [0, 4, 0, 4]);
    const given = { ...startOf(at), a: draw(4), locations: corners, probe: draw(4, 4) };
    const { y } = await runOneSite(at, given, draw(3, 5), new Float32Array(21));
    expect(y.every(Number.isFinite)).toBe(true);
    expect(() => changeOf(at, { a: draw(1), locations: places([7], [0]) })).toThrow(
      expect.objectContaining({ code: "PARAMETER" }),
    );
  });
});

describe("places", () => {
  const at = layer({ nFrequency: 3, scaling: 3 });
  const given: Record<string, AdapterTensor> = { ...startOf(at), a: draw(3), locations: places([0, 3, 6], [2, 0, 4]) };
  const [x, dy] = [draw(4, 5), draw(28).data];
  const lossOf = async (tensors: Record<string, AdapterTensor>): Promise<number> => {
    const { y } = await runOneSite(at, tensors, x, dy);
    return y.reduce((sum, v, i) => sum + v * dy[i]!, 0);
  };

  test("gradients of coefficients and of the probes at the four neighbours, by finite differences", async () => {
    const { gradients } = await runOneSite(at, given, x, dy);
    for (const [role, size] of [
      ["a", 3],
      ["probe", 12],
    ] as const)
      for (let i = 0; i < size; i++) {
        const moved = async (h: number): Promise<number> => {
          const { dims, data } = given[role]!;
          return lossOf({ ...given, [role]: { dims, data: data.map((v, k) => (k === i ? v + h : v)) } });
        };
        near([((await moved(0.1)) - (await moved(-0.1))) / 0.2], [gradients[role]![i]!], 1e-3);
      }
    // A probe's gradient is that of a coefficient at the neighbour, clamped at the border.
    const neighbours = [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const;
    for (const [n, [down, right]] of neighbours.entries())
      for (let k = 0; k < 3; k++) {
        const row = Math.min(6, Math.max(0, given["locations"]!.data[k]! + down));
        const column = Math.min(4, Math.max(0, given["locations"]!.data[3 + k]! + right));
        const one = await runOneSite(
          at,
          { ...given, a: draw(3), locations: places([row, 0, 0], [column, 0, 0]) },
          x,
          dy,
        );
        near([gradients["probe"]![n * 3 + k]!], [one.gradients["a"]![0]!]);
      }
  });

  test("move along a (Z[next] - Z[previous]) / 2, by Adam, rounded into the grid", async () => {
    const { gradients } = await runOneSite(at, given, x, dy);
    const probe = gradients["probe"]!;
    const values = new Map([
      ["a", given["a"]!.data.slice()],
      ["locations", given["locations"]!.data.slice()],
      ["probe", new Float32Array(12)],
    ]);
    const config = loca.config.parse({
      nFrequency: 3,
      scaling: 3,
      coefficientSteps: 1,
      locationSteps: 5,
      locationShare: 1,
      locationLearningRate: 0.7,
    });
    const site = { site: siteOf(at), config, names: { a: "a", locations: "locations", probe: "probe" } };
    const hooks = createLocations({ config, sites: [site], values, totalSteps: 6, seed: 1 });
    const step = (n: number) =>
      hooks.beforeUpdate!(
        n,
        new Map([
          ["a", new Float32Array(3).fill(1)],
          ["probe", probe.slice()],
        ]),
      );
    step(0);
    expect(hooks.held!().size).toBe(0);
    expect(values.get("locations")).toEqual(given["locations"]!.data);
    step(1);
    expect(hooks.held!().get("a")).toBe("all");
    const slope = (axis: 0 | 1, k: number): number =>
      (given["a"]!.data[k]! * (probe[2 * axis * 3 + k]! - probe[(2 * axis + 1) * 3 + k]!)) / 2;
    const state = hooks.state!();
    for (const axis of [0, 1] as const)
      for (let k = 0; k < 3; k++) {
        near([state["locations:first"]![axis * 3 + k]!], [0.1 * slope(axis, k)]);
        // Adam's first step is the rate against the sign of the slope.
        const place = given["locations"]!.data[axis * 3 + k]! - 0.7 * Math.sign(slope(axis, k));
        const inside = Math.min(Math.max(place, 0), axis === 0 ? 6 : 4);
        near([state["locations:exact"]![axis * 3 + k]!], [inside], 1e-3);
        expect(values.get("locations")![axis * 3 + k]).toBe(Math.round(state["locations:exact"]![axis * 3 + k]!));
      }
  });

  test("ten steps on coefficients, twenty on places, in turn, and places stay after their share of the training", async () => {
    const config = { nFrequency: 6, scaling: 4, locationShare: 0.5, targetModules: ["query"] };
    const { adapted, engine, steps, values } = await tinyTraining("LOCA", config, {
      totalSteps: 90,
      learningRate: 0.05,
    });
    const name = (role: string): string => adapted.parameters.find((p) => p.role === role)!.name;
    let trace = "";
    for (let step = 0; step < 60; step++) {
      const before = [await values(name("a")), await values(name("locations"))];
      await steps(step, step + 1);
      const after = [await values(name("a")), await values(name("locations"))];
      const exact = (await engine.state()).hooks[`${name("locations")}:exact`]!;
      expect(exact.length).toBe(12);
      trace += before[0]!.some((v, i) => v !== after[0]![i]) ? "a" : "l";
      if (trace.at(-1) === "a") expect(after[1]).toEqual(before[1]);
    }
    // Places learn in the first half, 45 steps; afterwards every step is one on coefficients.
    expect(trace).toBe(`${"a".repeat(10)}${"l".repeat(20)}${"a".repeat(10)}${"l".repeat(5)}${"a".repeat(15)}`);
    await engine.close();
  });

  test("fixed places are the same for one seed, and never move", async () => {
    const config = { nFrequency: 6, scaling: 4, learnLocations: false, targetModules: ["query"] };
    const run = async () => {
      const { engine, steps } = await tinyTraining("LOCA", config, { learningRate: 0.1, seed: 4 });
      const before = (await engine.state()).parameters;
      const losses = await steps(0, 10);
      const after = (await engine.state()).parameters;
      await engine.close();
      for (const [name, { data }] of Object.entries(before))
        if (name.includes("location")) expect(after[name]!.data).toEqual(data);
      return { losses, after };
    };
    expect(await run()).toEqual(await run());
  });
});

test("1,000 coefficients: 24,000 for RoBERTa-base, 48,000 for large; 3,000: 72,000 for ViT-base", () => {
  const countOf = (layers: number, size: number, nFrequency: number): number =>
    parameterCount(
      loca,
      loca.config.parse({ nFrequency }),
      Array.from({ length: 2 * layers }, (_, i) => ({
        ...siteOf({ weight: { dims: [size, size], data: weight.data } }),
        name: `${i}`,
      })),
    );
  expect([countOf(12, 768, 1000), countOf(24, 1024, 1000), countOf(12, 768, 3000)]).toEqual([24_000, 48_000, 72_000]);
});
