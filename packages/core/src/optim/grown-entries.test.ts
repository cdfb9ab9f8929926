import { describe, expect, test } from "vitest";
import { testRandom } from "../testing/check-gradient.ts";
import { agesOf, copyCorner } from "./grown-entries.ts";
import { createOptimizer } from "./optimizer.ts";
import type { OptimizerInput } from "./optimizer-config.ts";

const random = testRandom(4);
const draw = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() * 2 - 1);

/** A [2, 3] that becomes [3, 5] after four updates: the corner, and the rest as it joins, in order. */
const [before, after] = [[2, 3] as const, [3, 5] as const];
const corner = [0, 1, 2, 5, 6, 7];
const rest = [3, 4, 8, 9, 10, 11, 12, 13, 14];
const pick = (values: Float32Array, places: readonly number[]): Float32Array =>
  Float32Array.from(places, (i) => values[i]!);

describe.each<[string, OptimizerInput]>([
  ["adamw", { type: "adamw", learningRate: 0.1, weightDecay: 0.02 }],
  ["sgd", { type: "sgd", learningRate: 0.1 }],
  ["sgd with momentum", { type: "sgd", learningRate: 0.1, momentum: 0.9, dampening: 0.3 }],
])("%s", (_, config) => {
  /** One growing tensor beside two that never change size, the second of which joins late. */
  function both(followsSchedule: boolean) {
    const small = draw(6);
    const grown = new Map([["p", small.slice()]]);
    const apart = { old: new Map([["p", small.slice()]]), joined: new Map([["p", draw(9)]]) };
    const optimizers = {
      grown: createOptimizer(config, grown),
      old: createOptimizer(config, apart.old),
      joined: createOptimizer(config, apart.joined),
    };
    const step = (scale: number): void => {
      const gradient = draw(grown.get("p")!.length);
      optimizers.grown.step(new Map([["p", gradient.slice()]]), scale);
      if (gradient.length === 6) optimizers.old.step(new Map([["p", gradient]]), scale);
      else {
        optimizers.old.step(new Map([["p", pick(gradient, corner)]]), scale);
        optimizers.joined.step(new Map([["p", pick(gradient, rest)]]), followsSchedule ? scale : 1);
      }
    };
    const grow = (): void => {
      const values = new Float32Array(15);
      rest.forEach((place, i) => {
        values[place] = apart.joined.get("p")![i]!;
      });
      copyCorner(grown.get("p")!, before, values, after);
      grown.set("p", values);
      optimizers.grown.grow({ name: "p", values, dims: after, before, followsSchedule });
    };
    return { grown, apart, optimizers, step, grow };
  }

  test.each([true, false])(
    "new entries learn like a parameter that joins, old ones go on (schedule %s)",
    (followsSchedule) => {
      const { grown, apart, step, grow } = both(followsSchedule);
      for (const scale of [1, 0.9, 0.8, 0.7]) step(scale);
      grow();
      for (const scale of [0.6, 0.5, 0.4]) step(scale);
      expect(pick(grown.get("p")!, corner)).toEqual(apart.old.get("p"));
      expect(pick(grown.get("p")!, rest)).toEqual(apart.joined.get("p"));
    },
  );

  test("a saved state goes on, ages included", () => {
    const { grown, optimizers, step, grow } = both(false);
    for (const scale of [1, 0.9]) step(scale);
    grow();
    step(0.8);
    const values = new Map([["p", draw(6)]]);
    const other = createOptimizer(config, values);
    expect(() => other.restore(optimizers.grown.state())).toThrow(
      expect.objectContaining({ code: "OPTIMIZER_STATE_MISMATCH" }),
    );
    const larger = grown.get("p")!.slice();
    other.grow({ name: "p", values: larger, dims: after, before, followsSchedule: true });
    other.restore(optimizers.grown.state());
    const gradient = draw(15);
    other.step(new Map([["p", gradient.slice()]]), 0.5);
    optimizers.grown.step(new Map([["p", gradient]]), 0.5);
    expect(larger).toEqual(grown.get("p"));
    expect(other.state()).toEqual(optimizers.grown.state());
  });
});

test("a tensor that is not trained does not grow", () => {
  const optimizer = createOptimizer({ type: "sgd", learningRate: 1 }, new Map([["p", draw(1)]]));
  const growth = { name: "q", values: draw(2), dims: [2], before: [1], followsSchedule: true };
  expect(() => optimizer.grow(growth)).toThrow(expect.objectContaining({ code: "GRADIENT_MISMATCH" }));
});

test("corners of any number of axes, and ages in runs", () => {
  const at = (dims: readonly number[]) =>
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i + 1);
  expect([...copyCorner(at([2]), [2], new Float32Array(3), [3])]).toEqual([1, 2, 0]);
  expect([...copyCorner(at([1, 2, 1]), [1, 2, 1], new Float32Array(12), [2, 3, 2])]).toEqual([
    1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ]);
  expect(copyCorner(new Float32Array(0), [0, 3], new Float32Array(6), [2, 3])).toEqual(new Float32Array(6));
  expect(agesOf(Float32Array.of(0, 0, 7, -7, -7), 5)).toEqual([
    { start: 0, end: 2, born: 0, followsSchedule: true },
    { start: 2, end: 3, born: 7, followsSchedule: true },
    { start: 3, end: 5, born: 7, followsSchedule: false },
  ]);
});
