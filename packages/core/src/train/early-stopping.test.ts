import { expect, test } from "vitest";
import { parseConfig } from "../config/parse-config.ts";
import { earlyStoppingConfig, earlyStoppingNext, earlyStoppingStart } from "./early-stopping.ts";

function run(values: number[], config: Parameters<typeof earlyStoppingNext>[2]) {
  let state = earlyStoppingStart;
  const improved: number[] = [];
  for (const [i, value] of values.entries()) {
    const next = earlyStoppingNext(state, { step: i * 10, value }, config);
    state = JSON.parse(JSON.stringify(next.state)); // a checkpoint between any two evaluations
    if (next.improved) improved.push(i);
    if (next.stop) return { stoppedAt: i, improved, state };
  }
  return { stoppedAt: null, improved, state };
}

test("stops after `patience` evaluations without improvement and remembers the best", () => {
  const { stoppedAt, improved, state } = run([3, 2, 2.5, 1, 1, 1.2, 0.5], { patience: 2, minDelta: 0, mode: "min" });
  expect(improved).toEqual([0, 1, 3]);
  expect(stoppedAt).toBe(5);
  expect(state).toEqual({ best: 1, bestStep: 30, withoutImprovement: 2 });
});

test("max mode and minDelta: creeping gains do not count", () => {
  const config = { patience: 3, minDelta: 0.1, mode: "max" } as const;
  expect(run([0.5, 0.55, 0.58, 0.59, 0.9], config).stoppedAt).toBe(3);
  expect(run([0.5, 0.55, 0.61, 0.65, 0.72], config)).toMatchObject({ stoppedAt: null, improved: [0, 2, 4] });
});

test("NaN is never the best, not even first", () => {
  const { stoppedAt, state } = run([Number.NaN, 2, Number.NaN, Infinity], { patience: 3, minDelta: 0, mode: "max" });
  expect(stoppedAt).toBeNull();
  expect(state).toEqual({ best: 2, bestStep: 10, withoutImprovement: 2 });
});

test("configuration", () => {
  expect(parseConfig(earlyStoppingConfig, { patience: 2 }, "earlyStopping")).toEqual({
    patience: 2,
    minDelta: 0,
    mode: "min",
  });
  expect(() => parseConfig(earlyStoppingConfig, { patience: 0 }, "earlyStopping")).toThrow(/patience/);
});
