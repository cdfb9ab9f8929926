import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import type { CheckedFunction } from "./check-gradient.ts";
import { testRandom } from "./check-gradient.ts";
import { reportGradientCheck } from "./check-log.ts";
import { differentiatedOperators } from "./differentiated-operators.ts";
import { runBuilder } from "./run-graph.ts";

/** A vector, or a tensor of given dimensions. */
export type Point = readonly number[] | { readonly dims: readonly number[]; readonly data: readonly number[] };

const asTensor = (point: Point): RuntimeTensor =>
  "dims" in point
    ? { type: "float32", dims: point.dims, data: Float32Array.from(point.data) }
    : { type: "float32", dims: [point.length], data: Float32Array.from(point) };

/**
 * Gradients of `f` at one point, for edge cases where finite differences do not exist: ties, kinks, zeros, infinities.
 * @param dY the output gradient's entries; default all 1.
 * @returns one list of numbers per input.
 */
export async function gradientAt(
  f: CheckedFunction,
  points: readonly Point[],
  dY?: readonly number[],
  opset = 21,
): Promise<number[][]> {
  const g = createBuilder(opset);
  const tensors = points.map(asTensor);
  const inputs = tensors.map(({ dims }, i) => g.input(`x${i}`, "float32", dims));
  const result = f(g, inputs);
  if (Array.isArray(result)) throw new TypeError("gradientAt takes a function with one output.");
  const gradient = g.input("dy", "float32", result.shape);
  const operators = differentiatedOperators(g, inputs, [result]);
  const gradients = differentiate(g, [{ value: result, gradient }], inputs, { unreached: "zeros" });
  gradients.forEach((dX, i) => {
    g.output(dX, `d${i}`);
  });
  const size = result.shape.reduce<number>((n, d) => n * Number(d), 1);
  const feeds: Record<string, RuntimeTensor> = Object.fromEntries(tensors.map((t, i) => [`x${i}`, t]));
  feeds["dy"] = {
    type: "float32",
    dims: result.shape.map(Number),
    data: Float32Array.from(dY ?? Array.from({ length: size }, () => 1)),
  };
  const outputs = await runBuilder(g, feeds);
  reportGradientCheck({ operators, opset, against: "points", entries: false, frozen: false });
  return points.map((_, i) => Array.from(outputs[`d${i}`]?.data as Float32Array));
}

/** `n` random numbers from a range that keep `margin` away from every kink, so that finite differences exist. */
export function awayFrom(kinks: readonly number[], n: number, [low, high]: readonly [number, number], margin = 0.05) {
  const random = testRandom(3);
  const values: number[] = [];
  while (values.length < n) {
    const v = low + (high - low) * random();
    if (kinks.every((k) => Math.abs(v - k) >= margin)) values.push(v);
  }
  return values;
}
