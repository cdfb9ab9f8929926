import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { withFiles } from "../train/engine-files.ts";
import { budgetAt } from "./adalora-budget.ts";
import { behaviourLog } from "./testing/behaviour/log.ts";
import { configOn, targetsOn } from "./testing/behaviour/trial.ts";
import { triedConfigs } from "./testing/configs.ts";
import { groundNames } from "./testing/ground-names.ts";
import { groundOf } from "./testing/grounds.ts";
import { groundTask, type TinyTraining, tinyTraining } from "./testing/tiny-training.ts";

/** Methods whose hooks set tensors that are not trained: masks, places, probes. */
const scheduledTypes: readonly string[] = ["ADALORA", "TRIADAPTLORA", "DYLORA", "LOCA"];

/** Methods whose start is far from where they learn fastest on eight samples. */
const rates: Readonly<Record<string, number>> = {
  FOURIERFT: 0.2,
  C3A: 0.2,
  LOCA: 0.1,
  TINYLORA: 0.1,
  WAVEFT: 0.1,
  SHIRA: 0.05,
  TRAINABLE_TOKENS: 0.1,
};

const trials = groundNames.flatMap((name) => {
  const ground = groundOf(name);
  return triedConfigs.flatMap((tried) => {
    const { type, variant = "", refusedOn } = tried;
    if (targetsOn(ground, tried).length === 0 || refusedOn?.[name]) return [];
    return [{ title: `${type}${variant && ", "}${variant} on ${name}`, name, ground, type, variant, tried }];
  });
});

describe.each(trials.map((trial) => [trial.title, trial] as const))("%s", (_, trial) => {
  const { name, ground, type, variant, tried } = trial;
  const record = (capability: string): void =>
    behaviourLog.report({ method: type, variant, ground: name, capability, result: "yes" });
  const open = (): Promise<TinyTraining> =>
    tinyTraining(type, configOn(ground, tried), {
      totalSteps: 40,
      learningRate: rates[type] ?? 0.02,
      task: groundTask(ground),
    });

  test("the loss falls, nothing but trained tensors moves, and a resumed run goes on bit for bit", async () => {
    const { adapted, engine, steps } = await open();
    const before = (await engine.state()).parameters;
    const losses = await steps(0, 37);
    const folder = name === "transformer block" ? mkdtempSync(join(tmpdir(), "onnx-peft-training-")) : null;
    if (folder) await withFiles(engine).save(folder);
    losses.push(...(await steps(37, 40)));
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) * 0.9);
    record("loss falls");
    const after = (await engine.state()).parameters;
    const fixed = adapted.parameters.filter((p) => !p.trainable && !scheduledTypes.includes(type));
    for (const { name } of fixed) expect(after[name]?.data, name).toEqual(before[name]?.data);
    const moved = adapted.parameters.filter((p) => p.trainable && p.spec.saved !== false);
    for (const { name } of moved) {
      // A key's bias has no gradient: softmax does not see it.
      if (name.includes(".key.") && /bias/i.test(name)) continue;
      expect(after[name]?.data, name).not.toEqual(before[name]?.data);
    }
    record("only the adapter moves");
    await engine.close();
    if (!folder) return;
    const second = await open();
    await withFiles(second.engine).restore(folder);
    rmSync(folder, { recursive: true });
    expect(await second.steps(37, 40)).toEqual(losses.slice(37));
    expect((await second.engine.state()).parameters).toEqual(after);
    record("exact resume");
    await second.engine.close();
  });
});

describe("schedules", () => {
  const scheduled = [
    ["ADALORA", { initR: 3, targetR: 1, tinit: 2, tfinal: 4, deltaT: 2, targetModules: "all-linear" }],
    ["DYLORA", { rMax: 4, targetModules: "all-linear" }],
    [
      "LOCA",
      {
        nFrequency: 6,
        scaling: 4,
        coefficientSteps: 2,
        locationSteps: 2,
        locationShare: 0.8,
        targetModules: ["query", "up"],
      },
    ],
    ["OFT", { oftBlockSize: 4, coft: true, eps: 0.01, targetModules: "all-linear" }],
    ["TRIADAPTLORA", { referenceRank: 4, interval: 2, growth: "nonLinear", targetModules: "all-linear" }],
    [
      "TRIADAPTLORA",
      {
        init: "single",
        choose: "random",
        growLearningRate: "constant",
        interval: 3,
        targetModules: ["query", "output.dense"],
      },
    ],
  ] as const;

  test.each(scheduled)("%s: resumed in the middle it goes on bit for bit", async (type, config) => {
    const whole = await tinyTraining(type, config);
    const losses = await whole.steps(0, 20);
    const first = await tinyTraining(type, config);
    await first.steps(0, 9);
    const folder = mkdtempSync(join(tmpdir(), "onnx-peft-schedule-"));
    await withFiles(first.engine).save(folder);
    const second = await tinyTraining(type, config);
    await withFiles(second.engine).restore(folder);
    rmSync(folder, { recursive: true });
    expect(await second.steps(9, 20)).toEqual(losses.slice(9));
    expect(await second.engine.state()).toEqual(await whole.engine.state());
    for (const { engine } of [whole, first, second]) await engine.close();
  });

  test("AdaLoRA keeps exactly the budget of every step, and of the last one to the end", async () => {
    const total = 20;
    const { adapted, engine, steps, values } = await tinyTraining("ADALORA", scheduled[0][1], { totalSteps: total });
    const names = adapted.parameters.filter((p) => p.role === "E").map((p) => p.name);
    const kept = async (): Promise<number> => {
      let count = 0;
      for (const name of names) count += (await values(name)).filter((e) => e !== 0).length;
      return count;
    };
    const sizes = { first: 3 * names.length, last: names.length, total, tinit: 2, tfinal: 4 };
    for (let step = 0; step < total; step++) {
      await steps(step, step + 1);
      const t = step + 1;
      if (t > 2 && t % 2 === 0 && t < 16) expect(await kept(), `step ${t}`).toBe(budgetAt(t, sizes));
      if (t >= 16) expect(await kept(), `step ${t}`).toBe(names.length);
    }
    await engine.close();
  });

  test("the budget falls by the third power", () => {
    const at = (t: number): number => budgetAt(t, { first: 120, last: 20, total: 100, tinit: 10, tfinal: 30 });
    expect([at(0), at(10), at(40), at(70), at(71), at(100)]).toEqual([
      120,
      120,
      Math.trunc(100 * 0.125 + 20),
      20,
      20,
      20,
    ]);
  });

  test("LoCA moves places while they learn, inside the grid, and none afterwards", async () => {
    const { adapted, engine, steps, values } = await tinyTraining("LOCA", scheduled[2][1], { learningRate: 0.1 });
    const { name, shape } = adapted.parameters.find((p) => p.role === "locations")!;
    const start = (await values(name)).slice();
    await steps(0, 16);
    const learnt = (await values(name)).slice();
    await steps(16, 20);
    expect(learnt).not.toEqual(start);
    expect(await values(name)).toEqual(learnt);
    for (const place of learnt) expect(Number.isInteger(place) && place >= 0 && place < 8).toBe(true);
    const probe = adapted.parameters.find((p) => p.role === "probe")!.name;
    expect((await values(probe)).every((v) => v === 0)).toBe(true);
    expect(shape).toEqual([2, 6]);
    await engine.close();
  });

  test("constrained OFT stays within its bound", async () => {
    const { adapted, engine, steps, values } = await tinyTraining("OFT", scheduled[3][1]);
    await steps(0, 20);
    for (const { name, shape } of adapted.parameters.filter((p) => p.role === "R")) {
      const data = await values(name);
      const [blocks = 1, width = 1] = shape;
      for (let k = 0; k < blocks; k++) {
        const norm = Math.sqrt(2 * data.subarray(k * width, (k + 1) * width).reduce((sum, v) => sum + v * v, 0));
        expect(norm).toBeLessThanOrEqual((0.01 / Math.sqrt(blocks)) * (1 + 1e-5));
      }
    }
    await engine.close();
  });
});
