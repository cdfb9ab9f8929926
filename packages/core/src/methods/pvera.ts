import { z } from "zod";
import { columnRange, multiply, rowRange, scaleRows } from "../linalg/matrix.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { constant, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { sharedProjections, veraConfig } from "./vera.ts";

// 1. Config
export const pveraConfig = z.strictObject({
  /** As VeRA's; r is the width of the sampled values and costs 2 r + out parameters per site. */
  ...veraConfig.shape,
  /** Outside of training the mean is used: a model whose results are drawn anew at every run is not made. */
  sampleAtInference: z.literal(false).default(false),
});
export type PveraConfig = z.output<typeof pveraConfig>;

/**
 * PVeRA: VeRA whose inner values are drawn from a normal distribution that depends on the input. Fillioux et al. 2025, arXiv 2512.07703.
 *   [m, v] = d · (x·Aᵀ), h = m + e · exp(v / 2) with e ~ N(0, 1) in training, h = m otherwise, y += b · (h·Bᵀ).
 * A [2r, in] and B [out, r] are random, frozen and shared by all sites (slices of one pair of the largest size); d [2r] and b [out] are
 * trained and start at dInitial and 0. What is merged is the mean, a VeRA of the first halves of A and d. Parameters: 2r + out per site.
 * The projections are those of PyTorch's generator; the noise comes from the training's seed.
 */
export const pvera = defineMethod<PveraConfig>({
  type: "PVERA",
  paper: "2512.07703",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: pveraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ outFeatures }, { r, dInitial }) => ({
    b: { shape: [outFeatures], init: zeros },
    d: { shape: [2 * r], init: constant(dInitial) },
  }),
  shared: (sites, config) => sharedProjections(sites, config, 2 * config.r),
  // 3. Forward: the half of A that gives the variance is not read outside of training.
  forward(g, { x, y, site }, values, { r, dropout }) {
    const dropped = g.dropout(x, dropout);
    const half = (first: number) => {
      const a = g.slice(roleOf(values, "A"), [first, 0], [first + r, site.inFeatures], [0, 1]);
      const d = g.slice(roleOf(values, "d"), [first], [first + r], [0]);
      return g.mul(g.fusedMatMul(dropped, a, { transB: true }), d); // [..., r]
    };
    const b = g.slice(roleOf(values, "B"), [0], [site.outFeatures], [0]);
    const h = g.normalNoise(half(0), () => g.exp(g.mul(half(r), 0.5)));
    return g.add(y, g.mul(g.fusedMatMul(h, b, { transB: true }), roleOf(values, "b")));
  },
  // 4. Delta of the mean: diag(b)·B·diag(d)·A
  delta(tensors, { r }, site) {
    const a = columnRange(rowRange(toMatrix(roleOf(tensors, "A")), 0, r), 0, site.inFeatures);
    const b = rowRange(toMatrix(roleOf(tensors, "B")), 0, site.outFeatures);
    const product = multiply(b, scaleRows(a, roleOf(tensors, "d").data.subarray(0, r)));
    return { weight: addToWeight(site, scaleRows(product, roleOf(tensors, "b").data)) };
  },
  // 5. Keys
  keys: { b: "pvera_lambda_b", d: "pvera_lambda_d" },
  sharedKeys: { A: "base_model.pvera_A", B: "base_model.pvera_B" },
  peft: { names: { dropout: "pvera_dropout" }, only: { bias: ["none"] } },
});
