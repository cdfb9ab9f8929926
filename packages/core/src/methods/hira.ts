import { z } from "zod";
import { hadamardProduct, multiply } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const hiraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(32),
  /** Share of the input that the update does not see in training. */
  dropout: z.number().min(0).lt(1).default(0),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
});
export type HiraConfig = z.output<typeof hiraConfig>;

/**
 * HiRA: W' = W ∘ (1 + B·A), a change of high rank from two thin factors. Huang et al., ICLR 2025. A [r, in], B [out, r] = 0;
 * no scale. Parameters: r (in + out). The forward needs the dense W ∘ B·A.
 */
export const hira = defineMethod<HiraConfig>({
  type: "HIRA",
  paper: null,
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: hiraConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern" },
  // 2. Parameters
  parameters: ({ inFeatures, outFeatures }, { r }) => ({
    A: { shape: [r, inFeatures], free: ["r", null], init: kaimingUniform(Math.sqrt(5)) },
    B: { shape: [outFeatures, r], free: [null, "r"], init: zeros },
  }),
  // 3. Forward
  forward(g, { x, y, weight }, values, { dropout }) {
    const change = g.mul(weight(), g.matMul(roleOf(values, "B"), roleOf(values, "A"))); // [out, in]
    return g.add(y, g.fusedMatMul(g.dropout(x, dropout), change, { transB: true }));
  },
  // 4. Delta
  delta(tensors, _, site, frozen) {
    const product = multiply(toMatrix(roleOf(tensors, "B")), toMatrix(roleOf(tensors, "A")));
    return { weight: addToWeight(site, hadamardProduct(frozenMatrix(site, frozen), product)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { A: "hira_A", B: "hira_B" },
  swap: { config: (config) => ({ ...config, r: 1, dropout: 0, rankPattern: {} }), tensors: (tensors) => tensors },
  peft: { names: { dropout: "hira_dropout" }, only: { bias: ["none"] } },
});
