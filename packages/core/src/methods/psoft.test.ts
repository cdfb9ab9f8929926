import { expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { add, type Matrix, matrix, multiply } from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import { createRandom } from "../random/random.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { type AdapterTensor, type ByRole, parameterCount } from "./method.ts";
import { type PsoftConfig, psoft } from "./psoft.ts";

const site: SiteShape = {
  name: "layer.0.query",
  kind: "linear",
  inFeatures: 6,
  outFeatures: 8,
  weightShape: [8, 6],
  hasBias: true,
};
const random = testRandom(4);
const draw = (count: number): Float32Array => Float32Array.from({ length: count }, () => random() * 2 - 1);
const weight = draw(48);
const frozen = { weight: () => weight.slice(), bias: () => new Float32Array(8) };
const parse = (config: Partial<PsoftConfig>): PsoftConfig => psoft.config.parse(config);

/** W' for a given rotation and ones in the vectors. */
function changed(config: PsoftConfig, triangle: Float32Array): Matrix {
  const { A, B } = psoft.start!({ site, config, frozen, random: createRandom(1) });
  const { r } = config;
  const tensors: ByRole<AdapterTensor> = {
    R: { dims: [triangle.length], data: triangle },
    A: { dims: [r, 6], data: A! },
    B: { dims: [8, r], data: B! },
  };
  const change = psoft.delta!(tensors, config, site, frozen).weight as { add: Float32Array };
  return add(matrix(8, 6, weight), matrix(8, 6, change.add));
}
const near = (a: Matrix, b: Matrix, tolerance: number): void => {
  for (const [i, v] of a.data.entries()) expect(Math.abs(v - b.data[i]!)).toBeLessThan(tolerance);
};

test("lengths of the weight's rows and the angles between them stay while all directions are turned", () => {
  const own = { r: 6, alpha: 3, psoftMagA: false, psoftMagB: false };
  const turned = changed(parse(own), draw(15));
  const w = matrix(8, 6, weight);
  near(multiply(turned, turned, { transB: true }), multiply(w, w, { transB: true }), 1e-5);
  expect(Math.max(...turned.data.map((v, i) => Math.abs(v - weight[i]!)))).toBeGreaterThan(0.1);
  // Roots of singular values in A keep no angles.
  const skewed = changed(parse({ ...own, abSvdInit: "pissa_init" }), draw(15));
  const product = multiply(skewed, skewed, { transB: true }).data;
  const expected = multiply(w, w, { transB: true }).data;
  expect(Math.max(...product.map((v, i) => Math.abs(v - expected[i]!)))).toBeGreaterThan(0.1);
});

test("directions beyond r are left as they are, whatever alpha is", () => {
  const triangle = draw(3);
  const at = (alpha: number): Matrix => changed(parse({ r: 3, alpha, psoftMagA: false, psoftMagB: false }), triangle);
  near(at(7), at(1), 1e-5);
  const { u, s, vt } = svd(matrix(8, 6, weight));
  const rest = multiply(multiply(u, at(3), { transA: true }), vt, { transB: true });
  for (let k = 3; k < 6; k++) expect(rest.data[k * 6 + k]).toBeCloseTo(s[k]!, 5);
});

test("the series comes near the exact rotation for small angles", () => {
  const triangle = draw(3).map((v) => 0.05 * v);
  const own = { r: 3, psoftMagA: false, psoftMagB: false };
  near(changed(parse({ ...own, useCayleyNeumann: true }), triangle), changed(parse(own), triangle), 1e-4);
});

test("parameters follow from r alone", () => {
  expect(parameterCount(psoft, parse({ r: 6 }), [site])).toBe(15 + 12);
  expect(parameterCount(psoft, parse({ r: 4, psoftOrth: false, psoftMagB: false }), [site])).toBe(16 + 4);
  expect(() => psoft.parameters(site, parse({ r: 7 }), [site])).toThrow(
    expect.objectContaining({ code: "RANK_TOO_LARGE" }),
  );
});
