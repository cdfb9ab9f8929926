import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { parseConfig } from "../config/parse-config.ts";
import { learningRateAt, scheduleConfig, warmupStepsOf } from "./schedule.ts";

type Input = z.input<typeof scheduleConfig>;

/** Learning rates divided by their peak, steps 0 to 10 of 10, from `get_scheduler` of transformers 5.18 with PyTorch 2.15. */
const golden = {
  constant: [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
  constantWarm: [0.0, 0.333333333333333, 0.666666666666667, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
  linear: [
    0.0, 0.333333333333333, 0.666666666666667, 1.0, 0.857142857142857, 0.714285714285714, 0.571428571428571,
    0.428571428571429, 0.285714285714286, 0.142857142857143, 0.0,
  ],
  cosine: [
    0.0, 0.333333333333333, 0.666666666666667, 1.0, 0.95048443395121, 0.811744900929367, 0.611260466978157,
    0.388739533021843, 0.188255099070633, 0.04951556604879, 0.0,
  ],
  cosine2: [
    0.0, 0.5, 1.0, 0.691341716182545, 0.146446609406726, 0.038060233744357, 0.5, 0.961939766255643, 0.853553390593274,
    0.308658283817455, 0.0,
  ],
  restarts: [
    0.0, 0.5, 1.0, 0.691341716182545, 0.146446609406726, 0.961939766255643, 0.5, 0.038060233744357, 0.853553390593274,
    0.308658283817455, 0.0,
  ],
  polynomial: [
    0.0, 0.333333333333333, 0.666666666666667, 1.0, 0.761224489795919, 0.559183673469388, 0.393877551020408,
    0.26530612244898, 0.173469387755102, 0.118367346938776, 0.1,
  ],
  inverseSqrt: [
    0.0,
    0.333333333333333,
    0.666666666666667,
    1.0,
    0.866025403784439,
    0.774596669241483,
    Math.SQRT1_2,
    0.654653670707977,
    0.612372435695794,
    0.577350269189626,
    0.547722557505166,
  ],
  inverseSqrt0: [
    1.0, 0.999950003749688, 0.999900014997501, 0.999850033741565, 0.999800059980007, 0.999750093710954,
    0.999700134932535, 0.999650183642878, 0.999600239840112, 0.999550303522367, 0.999500374687773,
  ],
  inverseSqrtT: [
    0.0, 0.5, 1.0, 0.975900072948533, 0.953462589245592, 0.932504808240314, 0.912870929175277, 0.894427190999916,
    0.877058019307029, 0.86066296582387, 0.845154254728517,
  ],
  cosineMin: [
    0.0, 0.333333333333333, 0.666666666666667, 1.0, 0.955435990556089, 0.83057041083643, 0.650134420280341,
    0.449865579719659, 0.26942958916357, 0.144564009443911, 0.1,
  ],
};

const parse = (config: Input) => parseConfig(scheduleConfig, config, "schedule");

describe("learningRateAt equals transformers", () => {
  test.each([
    ["constant", { type: "constant" }],
    ["constantWarm", { type: "constant", warmupSteps: 3 }],
    ["linear", { type: "linear", warmupSteps: 3 }],
    ["linear", { type: "linear", warmupRatio: 0.25 }],
    ["cosine", { type: "cosine", warmupSteps: 3 }],
    ["cosine2", { type: "cosine", warmupSteps: 2, cycles: 1.5 }],
    ["cosineMin", { type: "cosine", warmupSteps: 3, minFactor: 0.1 }],
    ["restarts", { type: "cosine-with-restarts", warmupSteps: 2, cycles: 3 }],
    ["polynomial", { type: "polynomial", warmupSteps: 3, power: 2, endFactor: 0.1 }],
    ["inverseSqrt", { type: "inverse-sqrt", warmupSteps: 3 }],
    ["inverseSqrt0", { type: "inverse-sqrt" }],
    ["inverseSqrtT", { type: "inverse-sqrt", warmupSteps: 2, timescale: 20 }],
  ] as [keyof typeof golden, Input][])("%s %j", (name, input) => {
    const config = parse(input);
    golden[name].forEach((expected, step) => {
      expect(learningRateAt(step, 10, config), `step ${step}`).toBeCloseTo(expected, 12);
      expect(learningRateAt(step, 10, config, 3e-4)).toBeCloseTo(3e-4 * expected, 15);
    });
  });
});

test("runs that are all warm-up, or of no steps, stay finite", () => {
  for (const type of ["constant", "linear", "cosine", "cosine-with-restarts", "polynomial", "inverse-sqrt"] as const) {
    const config = parse({ type, warmupSteps: 5 });
    for (const total of [0, 1, 5]) {
      for (let step = 0; step <= 7; step++) expect(Number.isFinite(learningRateAt(step, total, config))).toBe(true);
    }
  }
});

test("warm-up ratio is rounded up as in transformers", () => {
  expect(warmupStepsOf(parse({ type: "linear", warmupRatio: 0.06 }), 99)).toBe(6);
  expect(warmupStepsOf(parse({ type: "linear", warmupRatio: 0 }), 99)).toBe(0);
});

test("contradictions and misspellings are refused", () => {
  expect(() => parse({ type: "linear", warmupSteps: 1, warmupRatio: 0.1 })).toThrow(
    /warmupSteps or warmupRatio, not both/,
  );
  expect(() => parse({ type: "linear", warmup_ratio: 0.1 } as Input)).toThrow(/did you mean "warmupRatio"/);
  expect(() => parse({ type: "inverse_sqrt" } as unknown as Input)).toThrow(/did you mean "inverse-sqrt"/);
});
