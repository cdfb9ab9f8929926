import { describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { dropoutMaskName } from "../graph/dropout.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { createDropoutFeeds, dropoutPoolBytes, symbolSizes } from "./dropout-feeds.ts";
import { buildTrainingProgram, type DropoutSite } from "./program.ts";

const inputs: Value[] = [{ name: "x", type: "float32", shape: ["batch", "tokens", 8] }];
const site = (draw: DropoutSite["draw"], size: Dim = "8*batch*tokens"): DropoutSite => ({ draw, size });
const run = (batch: number, tokens: number): Feeds => ({
  x: { type: "float32", dims: [batch, tokens, 8], data: new Float32Array(batch * tokens * 8) },
});
const create = (sites: readonly DropoutSite[], seed: number | string = 42) =>
  createDropoutFeeds({ sites, inputs, inputNames: ["x", ...sites.map((_, i) => dropoutMaskName(i))], seed });
const viewOf = (feeds: Feeds, i: number): Float32Array => feeds[dropoutMaskName(i)]!.data as Float32Array;

const masksOf = (feeds: Feeds, sites: readonly DropoutSite[], runFeeds: Feeds): number[][] => {
  const [batch = 0, tokens = 0] = runFeeds["x"]!.dims;
  return sites.map((_, i) => {
    expect(feeds[dropoutMaskName(i)]!.dims).toEqual([batch * tokens * 8]);
    expect(viewOf(feeds, i)).toHaveLength(batch * tokens * 8);
    return [...viewOf(feeds, i)];
  });
};

const share = (mask: readonly number[]): number => mask.filter((v) => v === 0).length / mask.length;

describe("dropout feeds", () => {
  test.each([0.1, 0.5, 0.9, 0.999, 1e-3])("p = %d: share of zeros, scale and expectation", (p) => {
    const sites = [site(p)];
    const big = run(64, 500);
    const [mask] = masksOf(create(sites)([big], 0)[0]!, sites, big);
    const n = mask!.length;
    expect(n).toBe(256_000);
    // Five standard deviations of a binomial share. The gaps' table rounds p by less than 2^-16.
    expect(Math.abs(share(mask!) - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / n) + 2 ** -16);
    const kept = new Set(mask!.filter((v) => v !== 0));
    expect(kept.size).toBe(1);
    expect(Math.abs([...kept][0]! * (1 - p) - 1)).toBeLessThan(2 ** -16 / (1 - p));
    const mean = mask!.reduce((sum, v) => sum + v, 0) / n;
    expect(Math.abs(mean - 1)).toBeLessThan(5 * Math.sqrt(p / (1 - p) / n));
  });

  test("noise is logistic: its sigmoid is uniform, within (0, 1)", () => {
    const sites = [site("logistic"), site("logistic"), site(0.5)];
    const big = run(32, 500);
    const [a, b, mask] = masksOf(create(sites)([big], 0)[0]!, sites, big) as [number[], number[], number[]];
    for (const noise of [a, b]) {
      const u = noise.map((v) => 1 / (1 + Math.exp(-v)));
      expect(Math.min(...u.slice(0, 1000))).toBeGreaterThan(0);
      for (const p of [0.05, 0.25, 0.5, 0.75, 0.95]) {
        const below = u.filter((v) => v < p).length / u.length;
        // Five standard deviations of a binomial share.
        expect(Math.abs(below - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / u.length));
      }
    }
    expect(new Set(mask)).toEqual(new Set([0, 2]));
    expect(a).not.toEqual(b);
    expect(masksOf(create(sites)([big], 0)[0]!, sites, big)).toEqual([a, b, mask]);
  });

  test("normal noise has mean 0, variance 1 and the tails of a normal distribution", () => {
    const sites = [site("normal"), site("normal")];
    const big = run(32, 500);
    const [a, b] = masksOf(create(sites)([big], 3)[0]!, sites, big) as [number[], number[]];
    for (const noise of [a, b]) {
      const n = noise.length;
      const mean = noise.reduce((sum, v) => sum + v, 0) / n;
      const variance = noise.reduce((sum, v) => sum + v * v, 0) / n;
      // Five standard deviations of each.
      expect(Math.abs(mean)).toBeLessThan(5 / Math.sqrt(n));
      expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
      for (const [bound, p] of [
        [1, 0.3173105],
        [2, 0.0455003],
        [3, 0.0026998],
      ] as const) {
        const outside = noise.filter((v) => Math.abs(v) > bound).length / n;
        expect(Math.abs(outside - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / n));
      }
    }
    expect(a).not.toEqual(b);
    expect(masksOf(create(sites)([big], 3)[0]!, sites, big)).toEqual([a, b]);
  });

  test("masks differ over sites, micro-batches, steps and seeds, and come back for the same ones", () => {
    const sites = [site(0.5), site(0.5), site(0.25)];
    const runs = [run(2, 4), run(2, 4)];
    const all: string[] = [];
    for (const seed of [1, "1"]) {
      for (const step of [0, 1]) {
        const feeds = create(sites, seed)(runs, step);
        for (const [k, feed] of feeds.entries()) all.push(...masksOf(feed, sites, runs[k]!).map(String));
      }
    }
    expect(all).toHaveLength(24);
    expect(new Set(all).size).toBe(24);
    // The pool is drawn anew for every step, not only cut elsewhere.
    const poolAt = (step: number) => String(new Float32Array(viewOf(create(sites)(runs, step)[0]!, 0).buffer));
    expect(poolAt(0)).not.toBe(poolAt(1));
    // A fresh object that never saw step 0: what a resumed run does.
    const again = create(sites, "1")(runs, 1);
    expect(again.flatMap((feed, k) => masksOf(feed, sites, runs[k]!).map(String))).toEqual(all.slice(18));
  });

  test("neighbours in a mask and masks of two sites are independent", () => {
    const sites = [site(0.5), site(0.5)];
    const big = run(32, 100);
    const [a, b] = masksOf(create(sites)([big], 3)[0]!, sites, big) as [number[], number[]];
    const agreement = (x: readonly number[], y: readonly number[]): number =>
      x.filter((v, i) => y[i] !== undefined && (v === 0) === (y[i] === 0)).length / Math.min(x.length, y.length);
    for (const pair of [
      [a, b],
      [a, a.slice(1)],
      [a, a.slice(2)],
      [b, b.slice(1)],
    ] as const) {
      expect(Math.abs(agreement(pair[0], pair[1]) - 0.5)).toBeLessThan(5 * Math.sqrt(0.25 / a.length));
    }
  });

  test("masks are aligned views into one array per probability, which is used again and holds what a fresh one would", () => {
    const sites = [site(0.3), site(0.3)];
    const feedsOf = create(sites);
    const first = feedsOf([run(64, 64)], 0)[0]!;
    const { buffer, byteOffset } = viewOf(first, 0);
    expect(viewOf(first, 1).buffer).toBe(buffer);
    expect(viewOf(first, 1).byteOffset).not.toBe(byteOffset);
    const second = feedsOf([run(8, 300)], 1)[0]!;
    for (const i of [0, 1]) expect(viewOf(second, i).byteOffset % 64).toBe(0);
    expect(viewOf(second, 0).buffer).toBe(buffer);
    expect(viewOf(second, 0)).toEqual(viewOf(create(sites)([run(8, 300)], 1)[0]!, 0));
  });

  test("no sites, no feeds; a site that the graph lost is not fed", () => {
    expect(createDropoutFeeds({ sites: [], inputs, inputNames: ["x"], seed: 1 })([run(1, 1)], 0)).toEqual([{}]);
    const sites = [site(0.1, "unknown"), site(0.5)];
    const inputNames = ["x", dropoutMaskName(1)];
    const [feeds] = createDropoutFeeds({ sites, inputs, inputNames, seed: 1 })([run(1, 1)], 0);
    expect(Object.keys(feeds!)).toEqual([dropoutMaskName(1)]);
  });

  test("one pool per probability, twice its largest mask, and never tiny", () => {
    const sizes = new Map([
      ["batch", 100],
      ["tokens", 50],
    ]);
    const sites = [site(0.1), site(0.1, "16*batch*tokens"), site(0.5, "batch")];
    expect(dropoutPoolBytes(sites, sizes)).toBe(4 * (2 * 16 * 5000 + 16384));
    expect(dropoutPoolBytes([], sizes)).toBe(0);
  });

  test("a size that follows from no input is an error", () => {
    expect(() => create([site(0.1, "unknown")])([run(1, 1)], 0)).toThrow(
      expect.objectContaining({ code: "DROPOUT_SIZE" }),
    );
    expect([...symbolSizes(inputs, run(2, 3))]).toEqual([
      ["batch", 2],
      ["tokens", 3],
    ]);
  });
});

describe("g.dropout", () => {
  test("off outside training and at probability 0; refuses what is none", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", [3]);
    expect(g.dropout(x, 0.5)).toBe(x);
    g.setTraining(true);
    expect(g.dropout(x, 0)).toBe(x);
    for (const p of [1, -0.1, Number.NaN]) {
      expect(() => g.dropout(x, p)).toThrow(expect.objectContaining({ code: "DROPOUT_PROBABILITY" }));
    }
  });

  test("each site multiplies by its own mask", async () => {
    const g = createBuilder();
    g.setTraining(true);
    const x = g.input("x", "float32", ["n", 2]);
    g.output(g.dropout(x, 0.5), "first");
    g.output(g.dropout(g.mul(x, 10), 0.5), "second");
    const mask = (...values: number[]) => ({ type: "float32" as const, dims: [4], data: Float32Array.from(values) });
    const outputs = await runBuilder(g, {
      x: { type: "float32", dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
      [dropoutMaskName(0)]: mask(2, 2, 0, 0),
      [dropoutMaskName(1)]: mask(0, 2, 0, 2),
    });
    expect([...outputs["first"]!.data]).toEqual([2, 4, 0, 0]);
    expect([...outputs["second"]!.data]).toEqual([0, 40, 0, 80]);
  });

  test("the gradient, against finite differences with fixed masks", async () => {
    const kept = 4 / 3;
    const masks = [
      [kept, 0, kept, kept, kept, 0, kept, kept, kept, kept, 0, kept],
      [kept, 0, kept, 0, kept, kept],
    ];
    await checkGradient(
      (g, [x, w]) => {
        g.setTraining(true);
        // Masks that are constants of the graph: checkGradient feeds nothing but its own inputs.
        for (const [i, mask] of masks.entries()) {
          g.op("Identity", [g.constant("float32", mask)], {}, { outputs: [dropoutMaskName(i)] });
        }
        return g.dropout(g.tanh(g.matMul(g.dropout(x!, 0.25), w!)), 0.25);
      },
      [{ dims: [3, 4] }, { dims: [4, 2] }],
    );
  });

  test("a site whose result nobody uses changes nothing", () => {
    const g = createBuilder();
    g.setTraining(true);
    const [x, a] = [g.input("x", "float32", ["n"]), g.input("a", "float32", [1])];
    g.dropout(x, 0.9);
    const loss = g.reduceSum(g.mul(g.dropout(x, 0.5), a), [0], false);
    const program = buildTrainingProgram(g, { sum: loss, weight: g.constant("float32", 1) }, [a]);
    const inputNames = ["x", dropoutMaskName(1)];
    const feedsOf = createDropoutFeeds({ sites: program.dropout, inputs: program.inputs, inputNames, seed: 1 });
    const [feeds] = feedsOf([{ x: { type: "float32", dims: [5], data: new Float32Array(5) } }], 0);
    expect(Object.keys(feeds!)).toEqual([dropoutMaskName(1)]);
  });
});
