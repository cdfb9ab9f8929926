import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createOptimizer } from "./optimizer.ts";
import type { OptimizerInput } from "./optimizer-config.ts";
import { learningRateAt, type ScheduleConfig } from "./schedule.ts";

/** Numbers of torch.optim and of transformers' get_scheduler, in float64: see parity/README.md. */
const golden = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../../parity/golden/${name}.json`, import.meta.url), "utf8"));

interface Optimizers {
  readonly start: number[];
  readonly gradients: number[][];
  readonly trajectories: {
    readonly name: string;
    readonly type: "AdamW" | "SGD";
    readonly options: Readonly<Record<string, unknown>>;
    readonly values: number[][];
  }[];
}

interface Schedules {
  readonly learning_rate: number;
  readonly steps: number;
  readonly schedules: {
    readonly name: string;
    readonly type: string;
    readonly warmup_steps: number;
    readonly options: Readonly<Record<string, number>>;
    readonly values: number[];
  }[];
}

const camelCase: Readonly<Record<string, string>> = { lr: "learningRate", weight_decay: "weightDecay" };

/** torch's options under our names; its defaults are left to ours, apart from the weight decay of AdamW, which is given. */
const optimizerOf = (type: "AdamW" | "SGD", options: Readonly<Record<string, unknown>>): OptimizerInput =>
  ({
    type: type.toLowerCase(),
    ...Object.fromEntries(Object.entries(options).map(([key, value]) => [camelCase[key] ?? key, value])),
  }) as OptimizerInput;

const optimizers = golden("optimizers") as Optimizers;

describe("trajectories of torch.optim", () => {
  test.each(optimizers.trajectories)("$name", ({ type, options, values }) => {
    const p = Float32Array.from(optimizers.start);
    const optimizer = createOptimizer(optimizerOf(type, options), new Map([["p", p]]));
    let farthest = 0;
    optimizers.gradients.forEach((gradient, step) => {
      optimizer.step(new Map([["p", Float32Array.from(gradient)]]));
      values[step]!.forEach((expected, i) => {
        const difference = Math.abs(p[i]! - expected);
        expect({ step, i, close: difference <= 2e-6 * Math.max(1, Math.abs(expected)) }).toEqual({
          step,
          i,
          close: true,
        });
        farthest = Math.max(farthest, Math.abs(expected - optimizers.start[i]!));
      });
    });
    expect(values.length).toBe(optimizers.gradients.length);
    expect(farthest).toBeGreaterThan(0.05); // the comparison is of something that moves
  });

  test("covers both optimisers", () => {
    expect(new Set(optimizers.trajectories.map((t) => t.type))).toEqual(new Set(["AdamW", "SGD"]));
  });
});

const schedules = golden("schedules") as Schedules;

/** transformers' schedule as ours. */
function scheduleOf({ type, warmup_steps: warmupSteps, options }: Schedules["schedules"][number]): ScheduleConfig {
  const own = (name: string): number => {
    const value = options[name];
    if (value === undefined) throw new Error(`The schedule ${type} has no option "${name}".`);
    return value;
  };
  switch (type) {
    case "constant":
    case "constant_with_warmup":
      return { type: "constant", warmupSteps };
    case "linear":
      return { type, warmupSteps };
    case "cosine":
      return { type, warmupSteps, cycles: options["num_cycles"] ?? 0.5, minFactor: 0 };
    case "cosine_with_min_lr":
      return { type: "cosine", warmupSteps, cycles: 0.5, minFactor: own("min_lr_rate") };
    case "cosine_with_restarts":
      return { type: "cosine-with-restarts", warmupSteps, cycles: own("num_cycles") };
    case "polynomial":
      return { type, warmupSteps, power: own("power"), endFactor: own("lr_end") / schedules.learning_rate };
    case "inverse_sqrt":
      return { type: "inverse-sqrt", warmupSteps };
    default:
      throw new Error(`No schedule here corresponds to transformers' ${type}.`);
  }
}

describe("learning rates of get_scheduler", () => {
  test.each(schedules.schedules)("$name", (schedule) => {
    const { steps, learning_rate: learningRate } = schedules;
    expect(schedule.values.length).toBe(steps);
    schedule.values.forEach((expected, step) => {
      const found = learningRateAt(step, steps, scheduleOf(schedule), learningRate);
      expect({ step, close: Math.abs(found - expected) <= 1e-12 * learningRate }).toEqual({ step, close: true });
    });
  });
});
