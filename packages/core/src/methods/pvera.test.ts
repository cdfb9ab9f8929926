import { expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import { dropoutMaskName } from "../graph/dropout.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { pvera } from "./pvera.ts";
import { forwardAt } from "./testing/one-site.ts";

const [rows, width, out, r] = [5, 4, 3, 2];
const random = testRandom(21);
const values = (n: number): number[] => Array.from({ length: n }, () => random() * 2 - 1);
const given = {
  ...{ x: values(rows * width), A: values(2 * r * width), B: values(out * r) },
  ...{ d: values(2 * r), b: values(out), noise: values(rows * r), weights: values(rows * out) },
};
type Given = typeof given;
const dims = { x: [rows, width], A: [2 * r, width], B: [out, r], d: [2 * r], b: [out], weights: [rows, out] };

/** The change of y [rows, out] as the paper writes it, in double precision. */
function change({ x, A, B, d, b }: Given, noise: readonly number[]): number[] {
  const inner = (t: number, k: number): number => {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[t * width + i]! * A[k * width + i]!;
    return d[k]! * sum;
  };
  const h = (t: number, k: number): number => inner(t, k) + noise[t * r + k]! * Math.exp(inner(t, k + r) / 2);
  return Array.from({ length: rows * out }, (_, at) => {
    const [t, o] = [Math.floor(at / out), at % out];
    let sum = 0;
    for (let k = 0; k < r; k++) sum += h(t, k) * B[o * r + k]!;
    return b[o]! * sum;
  });
}

async function built(training: boolean) {
  const g = createBuilder();
  const input = (name: keyof typeof dims) => g.input(name, "float32", dims[name]);
  const [x, A, B, d, b, weights] = [input("x"), input("A"), input("B"), input("d"), input("b"), input("weights")];
  g.setTraining(training);
  const weight = g.constant("float32", new Array<number>(out * width).fill(0), [out, width]);
  const at = { method: pvera, config: { r }, weight: { dims: [out, width], data: new Float32Array(out * width) } };
  const y = forwardAt(g, at, { x, weight, bias: null }, { A, B, d, b });
  const loss = g.reduceSum(g.mul(y, weights), [0, 1], false);
  const gradients = differentiate(g, [{ value: loss }], [x, d, b]);
  g.output(y, "y");
  for (const [i, name] of ["x", "d", "b"].entries()) g.output(gradients[i]!, `d:${name}`);
  const feed = (data: number[], shape: readonly number[]) => ({
    type: "float32" as const,
    dims: shape,
    data: Float32Array.from(data),
  });
  const feeds = Object.fromEntries(
    Object.entries(dims).map(([name, shape]) => [name, feed(given[name as keyof Given], shape)]),
  );
  return runBuilder(g, { ...feeds, [dropoutMaskName(0)]: feed(given.noise, [rows * r]) });
}

test.each([
  ["training: drawn around the mean", true, given.noise],
  ["otherwise: the mean", false, new Array<number>(rows * r).fill(0)],
] as const)("%s, with its gradients", async (_, training, noise) => {
  const found = await built(training);
  const expected = change(given, noise);
  for (const [i, v] of (found["y"]!.data as Float32Array).entries()) expect(v).toBeCloseTo(expected[i]!, 5);
  const lossAt = (name: "x" | "d" | "b", i: number, step: number): number => {
    const moved = { ...given, [name]: given[name].map((v, k) => (k === i ? v + step : v)) };
    return change(moved, noise).reduce((sum, v, k) => sum + v * given.weights[k]!, 0);
  };
  for (const name of ["x", "d", "b"] as const) {
    for (const [i, v] of (found[`d:${name}`]!.data as Float32Array).entries()) {
      const central = (lossAt(name, i, 1e-4) - lossAt(name, i, -1e-4)) / 2e-4;
      expect(v, `${name} ${i}`).toBeCloseTo(central, 4);
    }
  }
});

test("a model that samples at inference is refused", () => {
  expect(() => pvera.config.parse({ sampleAtInference: true })).toThrow();
});
