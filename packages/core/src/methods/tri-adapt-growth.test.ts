import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { adapterOf } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { type AdapterConfigInput, methodConfig } from "../adapters/select.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { meanSquaredError } from "../losses/mean-squared-error.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { buildAdapterProgram } from "../train/adapter-program.ts";
import { createEngine } from "../train/engine.ts";
import { gap, growing, move, site } from "./testing/tri-adapt-growing.ts";
import { normPerBlock } from "./tri-adapt-blocks.ts";
import { blocksOf, type TriAdaptConfig, triAdaptScale } from "./tri-adapt-config.ts";
import { growingCount, growingSites, isGrowthDue, shares } from "./tri-adapt-growth.ts";
import { triAdaptLora } from "./tri-adapt-lora.ts";

describe("growth", () => {
  test("with C = 0 it changes nothing but the scale, and not even that where it is constant or made up for", () => {
    const ratio = (fields: Partial<TriAdaptConfig>): number[] => {
      const run = growing({ initRank: 2, referenceRank: 6, ...fields });
      move(run, "a");
      const before = run.change("a").slice();
      expect(run.grow(4)).toHaveLength(4);
      expect(run.rankOf("a")).toBe(5);
      return Array.from(run.change("a"), (v, i) => v / before[i]!);
    };
    for (const v of ratio({})) expect(v).toBeCloseTo((2 + 1e-5) / (5 + 1e-5), 6);
    for (const v of ratio({ scaleBy: 2 })) expect(v).toBe(1);
    for (const v of ratio({ rescaleOnGrowth: true })) expect(v).toBeCloseTo(1, 5);
    // The other starts add a jump: new ranks take part at once.
    for (const init of ["single", "eye"] as const) {
      const jump = ratio({ init, increment: 3, scaleBy: 2 });
      expect(Math.max(...jump.map((v) => Math.abs(v - 1)))).toBeGreaterThan(1e-6);
    }
  });

  test("how many modules grow: linear, non-linear, at least one, at most all", () => {
    const state = { t: 6, warmup: 2, total: 12, now: 12, target: 24 }; // q = 0.4, 12 ranks missing
    expect(growingCount(state, "linear", 10)).toBe(4); // 4.8
    expect(growingCount(state, "nonLinear", 10)).toBe(2); // 12^0.4 = 2.70
    expect(growingCount({ ...state, t: 3 }, "linear", 10)).toBe(1); // 1.2
    expect(growingCount({ ...state, now: 23 }, "linear", 10)).toBe(1); // 0.4
    expect(growingCount({ ...state, t: 12 }, "linear", 3)).toBe(3);
    expect(growingCount({ ...state, t: 12 }, "nonLinear", 20)).toBe(12);
  });

  test("three modules with given scores: threshold and ties", () => {
    const scores = [0.1, -0.2, 0.1];
    expect(growingSites(scores, 1)).toEqual([0, 2]);
    expect(growingSites(scores, 3)).toEqual([0, 1, 2]);
    expect(growingSites([-3, -1, -2], 2)).toEqual([1, 2]);
    expect(shares([0, 2], scores, { increment: 4, left: Number.POSITIVE_INFINITY })).toEqual(
      new Map([
        [0, 4],
        [2, 4],
      ]),
    );
    expect(shares([0, 1, 2], [1, 5, 3], { increment: 4, left: 6 })).toEqual(
      new Map([
        [1, 4],
        [2, 2],
      ]),
    );
  });

  test("none before the warm-up is over, between intervals, and after the target; the total exceeds it by less than a block each", () => {
    const at = (t: number, now = 0) => isGrowthDue({ t, warmup: 4, total: 20, now, target: 8 }, 3);
    expect([3, 4, 5, 6, 7, 9].map((t) => at(t))).toEqual([false, false, false, true, false, true]);
    expect([at(6, 7), at(6, 8), at(6, 9)]).toEqual([true, false, false]);
    const names = ["a", "b", "c"];
    for (const capTotal of [false, true]) {
      const run = growing({ initRank: 1, referenceRank: 4, increment: 3, interval: 2, warmup: 1, capTotal }, names, 12);
      const history: number[][] = [];
      for (let step = 0; step < 12; step++) {
        for (const name of names) move(run, name);
        run.grow(step);
        history.push(names.map(run.rankOf));
      }
      expect(history[0]).toEqual([1, 1, 1]);
      const totals = history.map((ranks) => ranks.reduce((a, b) => a + b, 0));
      totals.forEach((now, step) => {
        if (step % 2 === 0 && step > 0) expect(now).toBe(totals[step - 1]);
      });
      const final = totals.at(-1)!;
      expect(final).toBeGreaterThanOrEqual(12);
      expect(final).toBeLessThanOrEqual(capTotal ? 12 : 12 + 3 * 3 - 1);
    }
  });

  test("the score is the increase of |C| per block since the last look", () => {
    const run = growing({ initRank: 2, referenceRank: 8, increment: 2, interval: 1 });
    move(run, "a");
    const { values } = run;
    const norm = () =>
      normPerBlock(values.get("a.L")!, values.get("a.U")!, blocksOf(run.rankOf("a"), run.config).length);
    const last = () => run.hooks.state!()["triadaptlora:norms"]![0]!;
    expect(last()).toBe(0); // looked at when C was zero
    const v = norm();
    run.grow(0);
    expect(last()).toBeCloseTo(v, 6);
    // A block more, whose C is zero: v falls to one half.
    expect(norm()).toBeCloseTo(v / 2, 6);
    for (const role of ["L", "U"])
      values.set(
        `a.${role}`,
        values.get(`a.${role}`)!.map((x) => 2 * x),
      );
    expect(norm() - v / 2).toBeCloseTo(v / 2, 6); // twice the C: the score is what v was
  });

  test("gradients outside the pattern are cleared", () => {
    const run = growing({ initRank: 1, increment: 2, referenceRank: 3 });
    run.grow(0);
    const gradients = new Map(["L", "U"].map((role) => [`a.${role}`, new Float32Array(9).fill(1)]));
    run.hooks.beforeUpdate!(1, gradients);
    expect([...gradients.get("a.L")!]).toEqual([1, 0, 0, 1, 1, 1, 1, 1, 1]);
    expect([...gradients.get("a.U")!]).toEqual([1, 1, 1, 0, 1, 1, 0, 1, 1]);
  });

  test("a schedule without room is refused", () => {
    expect(() => growing({ warmup: 10 })).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  });
});

describe("the transcription in PyTorch", () => {
  interface Golden {
    readonly alpha: number;
    readonly orthReg: number;
    readonly learningRate: number;
    readonly interval: number;
    readonly target: number;
    readonly weight: number[];
    readonly x: number[];
    readonly y: number[];
    readonly start: Record<"A" | "L" | "U", number[]>;
    readonly losses: number[];
    readonly growths: {
      readonly step: number;
      readonly score: number;
      readonly block: Record<"A" | "B" | "L" | "U", number[]>;
    }[];
    readonly change: number[];
  }
  const golden = JSON.parse(
    readFileSync(new URL("../../../../parity/golden/tri-adapt.json", import.meta.url), "utf8"),
  ) as Golden;

  test("losses of eight steps with three growths, scores, and the change at the end", async () => {
    const g = createBuilder(17);
    const input = g.input("x", "float32", ["rows", 5]);
    const weight = g.initializer("layer.weight", tensorFrom("float32", [4, 5], golden.weight));
    g.output(g.op("Gemm", [input, weight], { transB: 1 }, { name: "/layer/Gemm" })[0]!, "y");
    const config = { ...golden, init: "single", referenceRank: golden.target, targetModules: ["layer"] };
    const { alpha, orthReg, interval, init, referenceRank, targetModules } = config;
    const adapted = injectAdapter(toModel(g.finish(), 17), {
      method: triAdaptLora,
      config: { alpha, orthReg, interval, init, referenceRank, targetModules } as AdapterConfigInput<TriAdaptConfig>,
    });
    const y = adapted.g.input("labels", "float32", ["rows", 4]);
    const training = buildAdapterProgram(
      adapted,
      meanSquaredError(adapted.g, { predictions: adapted.outputs.get("y")!, labels: y }),
    );
    const named = (role: string): string => adapted.parameters.find((p) => p.role === role)!.name;
    const start: Record<string, readonly number[]> = { ...golden.start, B: [0, 0, 0, 0], scale: [alpha / (1 + 1e-5)] };
    const engine = await createEngine(onnxruntimeNode, {
      training,
      parameters: Object.fromEntries(
        adapted.parameters.map(({ name, role, shape }) => [
          name,
          { type: "float32", dims: shape, data: Float32Array.from(start[role]!) } as const,
        ]),
      ),
      optimizer: { type: "sgd", learningRate: golden.learningRate },
      ...{ seed: 1, threads: 1, totalSteps: golden.losses.length },
    });
    const runs = [
      {
        x: { type: "float32", dims: [6, 5], data: Float32Array.from(golden.x) },
        labels: { type: "float32", dims: [6, 4], data: Float32Array.from(golden.y) },
      } as const,
    ];
    let norm = 0;
    for (let step = 0; step < golden.losses.length; step++) {
      const before = await engine.state();
      if (step === 0) norm = before.hooks["triadaptlora:norms"]![0]!;
      const { loss } = await engine.step({ step, runs, learningRateScale: 1 });
      expect(Math.abs(loss - golden.losses[step]!)).toBeLessThan(1e-5);
      const growth = golden.growths.find((found) => found.step === step);
      const state = await engine.state();
      const r = state.parameters[named("A")]!.dims[0]!;
      expect(r).toBe((before.parameters[named("A")]!.dims[0] ?? 0) + (growth ? 1 : 0));
      if (!growth) continue;
      const now = state.hooks["triadaptlora:norms"]![0]!;
      expect(Math.abs(now - norm - growth.score)).toBeLessThan(1e-5);
      norm = now;
      // The same numbers in the new block.
      const put = (role: string, place: (i: number) => number): void => {
        const data = state.parameters[named(role)]!.data as Float32Array;
        growth.block[role as "A"].forEach((v, i) => {
          data[place(i)] = v;
        });
      };
      put("A", (i) => (r - 1) * 5 + i);
      put("B", (i) => i * r + r - 1);
      put("L", (i) => (r - 1) * r + i);
      put("U", (i) => i * r + r - 1);
      await engine.restore(state);
    }
    const { parameters } = await engine.state();
    const adapter = adapterOf(adapted, new Map(Object.entries(parameters)));
    const tensors = Object.fromEntries(["A", "B", "L", "U"].map((role) => [role, adapter.tensors.get(named(role))!]));
    const own = methodConfig(adapter.config) as TriAdaptConfig;
    expect(own.rankPattern).toEqual({ layer: 4 });
    expect(triAdaptScale(4, own)).toBeCloseTo(3 / (4 + 1e-5), 12);
    const { weight: found } = triAdaptLora.delta!(tensors, own, site("layer"), {} as never);
    expect(gap((found as { add: Float32Array }).add, golden.change)).toBeLessThan(1e-5);
    await engine.close();
  });
});
